// RoIAlign on the GPU: one launch for all levels, forward and backward; both deterministic.
#include "bilinear.h"
#include "cuda_common.cuh"
#include "roi_align.h"

namespace fastdet {
namespace {

template <typename A>
struct RoiPlace {
  RoiAxis<A> y;
  RoiAxis<A> x;
  int64_t image;
  int level;
};

// Where a RoI lies; false when its batch index or level is out of range.
template <typename A>
__device__ __forceinline__ bool locate_roi(const RoiAlignArgs& args, int64_t index, RoiPlace<A>* place) {
  const A* roi = static_cast<const A*>(args.rois) + index * 5;
  const A image = roi[0];
  if (!(image >= A(0) && image < A(args.batch))) return false;
  place->image = static_cast<int64_t>(image);
  if (args.roi_levels == nullptr) {
    place->level = pyramid_level(roi[1], roi[2], roi[3], roi[4], static_cast<A>(args.finest_scale), args.num_levels);
  } else {
    const int64_t level = args.roi_levels[index];
    if (level < 0 || level >= args.num_levels) return false;
    place->level = static_cast<int>(level);
  }
  const A scale = static_cast<A>(args.levels[place->level].scale);
  place->y = roi_axis(roi[2], roi[4], scale, args.out_h, args.sampling_ratio, args.aligned);
  place->x = roi_axis(roi[1], roi[3], scale, args.out_w, args.sampling_ratio, args.aligned);
  return true;
}

__device__ __forceinline__ int64_t pooled_offset(const RoiAlignArgs& args, int64_t roi, int64_t channel, int64_t bin) {
  const int64_t bins = args.out_h * args.out_w;
  return args.pooled_channels_last ? (roi * bins + bin) * args.channels + channel
                                   : (roi * args.channels + channel) * bins + bin;
}

// kVector values that are loaded and stored at once, 16 bytes when kVector > 1.
template <typename T, int kVector>
struct alignas(kVector * sizeof(T)) Pack {
  T values[kVector];
};

template <typename T, typename A, int kVector>
__device__ __forceinline__ void add_weighted(const T* from, A weight, A* sums) {
  const Pack<T, kVector> pack = *reinterpret_cast<const Pack<T, kVector>*>(from);
#pragma unroll
  for (int v = 0; v < kVector; ++v) sums[v] += weight * device_widen(pack.values[v]);
}

template <typename T, typename A, int kVector>
__device__ __forceinline__ void pool_bin(const FeatureLevel& level, const T* data, const RoiPlace<A>& place,
                                         int64_t bin_y, int64_t bin_x, A* sums) {
  const int height = static_cast<int>(level.height);
  const int width = static_cast<int>(level.width);
  const SampleRange ys = samples_between(place.y, bin_y, -1.0, static_cast<double>(height));
  const SampleRange xs = samples_between(place.x, bin_x, -1.0, static_cast<double>(width));
  for (int64_t i = ys.begin; i < ys.end; ++i) {
    const AxisSample<A> y = axis_sample(sample_position(place.y, bin_y, i), height);
    if (y.low_weight == A(0) && y.high_weight == A(0)) continue;
    const T* low_row = data + y.low * level.stride_h;
    const T* high_row = data + y.high * level.stride_h;
    for (int64_t j = xs.begin; j < xs.end; ++j) {
      const AxisSample<A> x = axis_sample(sample_position(place.x, bin_x, j), width);
      if (x.low_weight == A(0) && x.high_weight == A(0)) continue;
      const int64_t low = x.low * level.stride_w;
      const int64_t high = x.high * level.stride_w;
      add_weighted<T, A, kVector>(low_row + low, y.low_weight * x.low_weight, sums);
      add_weighted<T, A, kVector>(low_row + high, y.low_weight * x.high_weight, sums);
      add_weighted<T, A, kVector>(high_row + low, y.high_weight * x.low_weight, sums);
      add_weighted<T, A, kVector>(high_row + high, y.high_weight * x.high_weight, sums);
    }
  }
}

// Block column x pools RoI x; its blocks in y share the RoI's values. A thread owns kVector channels of one bin, with
// neighbouring threads on neighbouring channels (kChannelsInside) or bins. Sums in float (double for double).
template <typename T, int kVector, bool kChannelsInside>
__global__ void __launch_bounds__(kBlockThreads) roi_align_forward_kernel(const __grid_constant__ RoiAlignArgs args) {
  using A = device_accumulator_t<T>;
  const int64_t roi = blockIdx.x;
  const int64_t bins = args.out_h * args.out_w;
  const int64_t packs = args.channels / kVector;
  const int64_t total = packs * bins;
  T* pooled = static_cast<T*>(args.pooled);
  RoiPlace<A> place;
  const bool inside = locate_roi(args, roi, &place);
  const A count = inside ? sample_count(place.y, place.x) : A(1);
  const int64_t step = static_cast<int64_t>(gridDim.y) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x; i < total; i += step) {
    const int64_t bin = kChannelsInside ? i / packs : i % bins;
    const int64_t channel = (kChannelsInside ? i % packs : i / bins) * kVector;
    A sums[kVector] = {};
    if (inside) {
      const FeatureLevel& level = args.levels[place.level];
      const T* data = static_cast<const T*>(level.data) + place.image * level.stride_n + channel * level.stride_c;
      pool_bin<T, A, kVector>(level, data, place, bin / args.out_w, bin % args.out_w, sums);
    }
    Pack<T, kVector> result;
#pragma unroll
    for (int v = 0; v < kVector; ++v) result.values[v] = device_narrow<T>(sums[v] / count);
    if (kVector > 1 && args.pooled_channels_last) {
      *reinterpret_cast<Pack<T, kVector>*>(pooled + pooled_offset(args, roi, channel, bin)) = result;
    } else {
#pragma unroll
      for (int v = 0; v < kVector; ++v) pooled[pooled_offset(args, roi, channel + v, bin)] = result.values[v];
    }
  }
}

// Whether every 16-byte access of the vector kernel is aligned.
template <typename T>
bool fits_vectors(const RoiAlignArgs& args) {
  constexpr int64_t kVector = 16 / sizeof(T);
  bool fits = args.channels % kVector == 0 && reinterpret_cast<uintptr_t>(args.pooled) % 16 == 0;
  for (int l = 0; l < args.num_levels; ++l) {
    const FeatureLevel& level = args.levels[l];
    fits = fits && level.stride_c == 1 && reinterpret_cast<uintptr_t>(level.data) % 16 == 0 &&
           level.stride_n % kVector == 0 && level.stride_h % kVector == 0 && level.stride_w % kVector == 0;
  }
  return fits;
}

template <typename T>
cudaError_t launch_forward(const RoiAlignArgs& args, cudaStream_t stream) {
  constexpr int kVector = 16 / sizeof(T);
  const bool vectors = fits_vectors<T>(args);
  const bool channels_inside = args.levels[0].stride_c == 1 && args.channels > 1;
  const int64_t total = args.channels / (vectors ? kVector : 1) * args.out_h * args.out_w;
  // Few RoIs are spread over more blocks each; many blocks a RoI would only repeat the work of locating it.
  constexpr int64_t kValuesPerThread = 4;
  constexpr int64_t kMostBlocksPerRoi = 64;
  const int64_t wanted = (total + kBlockThreads * kValuesPerThread - 1) / (kBlockThreads * kValuesPerThread);
  const dim3 blocks(static_cast<unsigned>(args.num_rois),
                    static_cast<unsigned>(wanted < kMostBlocksPerRoi ? wanted : kMostBlocksPerRoi));
  if (vectors) {
    roi_align_forward_kernel<T, kVector, true><<<blocks, kBlockThreads, 0, stream>>>(args);
  } else if (channels_inside) {
    roi_align_forward_kernel<T, 1, true><<<blocks, kBlockThreads, 0, stream>>>(args);
  } else {
    roi_align_forward_kernel<T, 1, false><<<blocks, kBlockThreads, 0, stream>>>(args);
  }
  return cudaGetLastError();
}

constexpr int64_t kMostBlocks = 0x7FFFFFFF;  // of a grid in x

constexpr int kTileSide = 8;  // cells; a warp owns a row of the tile, a lane one channel
constexpr int kSlice = 32;    // channels of a block
static_assert(kTileSide * 32 == kBlockThreads, "one warp a row");

// Tiles of all levels, numbered one level after the other.
struct TileTable {
  int64_t first[kMaxLevels];
  int64_t columns[kMaxLevels];
  int64_t total;
};

// Whether samples of a RoI can touch cells [begin, end) of an axis; generous by a cell.
template <typename A>
__device__ __forceinline__ bool touches(const RoiAxis<A>& axis, int64_t bins, int64_t begin, int64_t end,
                                        int64_t size) {
  if (axis.grid <= 0) return false;
  const A stop = axis.start + A(bins) * axis.bin;
  const A low = smaller(axis.start, stop) - A(2);
  const A high = larger(axis.start, stop) + A(2);
  if (high < A(-1) || low > A(size)) return false;
  // Samples just outside the map count for its border cells.
  return (high >= A(begin) || begin == 0) && (low <= A(end) || end >= size);
}

// A block owns an 8 x 8 tile of one image and level and 32 channels. It finds the RoIs that touch the tile 256 at a
// time, in RoI order, and for each adds weight_y * weight_x * grad to the cells, kept in registers: every cell is
// written once, without atomics. Shared memory: the weights of the tile's rows and columns for one RoI.
template <typename T>
__global__ void __launch_bounds__(kBlockThreads)
    roi_align_backward_kernel(const __grid_constant__ RoiAlignArgs args, const __grid_constant__ TileTable tiles,
                              int64_t slices) {
  using A = device_accumulator_t<T>;
  extern __shared__ __align__(16) unsigned char shared_memory[];
  A* y_weights = reinterpret_cast<A*>(shared_memory);  // [out_h, kTileSide]
  A* x_weights = y_weights + args.out_h * kTileSide;   // [out_w, kTileSide]
  __shared__ int64_t hits[kBlockThreads];
  __shared__ int warp_hits[kTileSide];

  const int64_t tile = blockIdx.x / (slices * args.batch);
  const int64_t image = blockIdx.x / slices % args.batch;
  int level_index = 0;
  while (level_index + 1 < args.num_levels && tile >= tiles.first[level_index + 1]) ++level_index;
  const FeatureLevel& level = args.levels[level_index];
  const int64_t in_level = tile - tiles.first[level_index];
  const int64_t y_begin = in_level / tiles.columns[level_index] * kTileSide;
  const int64_t x_begin = in_level % tiles.columns[level_index] * kTileSide;
  const int lane = threadIdx.x % 32;
  const int row = threadIdx.x / 32;
  const int64_t channel = static_cast<int64_t>(blockIdx.x) % slices * kSlice + lane;
  const bool has_cell = y_begin + row < level.height && channel < args.channels;
  const T* pooled = static_cast<const T*>(args.pooled);
  A sums[kTileSide] = {};

  for (int64_t base = 0; base < args.num_rois; base += kBlockThreads) {
    const int64_t candidate = base + threadIdx.x;
    RoiPlace<A> place;
    const bool hit = candidate < args.num_rois && locate_roi(args, candidate, &place) && place.image == image &&
                     place.level == level_index &&
                     touches(place.y, args.out_h, y_begin, y_begin + kTileSide, level.height) &&
                     touches(place.x, args.out_w, x_begin, x_begin + kTileSide, level.width);
    const unsigned word = __ballot_sync(0xFFFFFFFFu, hit);
    if (lane == 0) warp_hits[row] = __popc(word);
    __syncthreads();
    int before = 0;
    int num_hits = 0;
    for (int w = 0; w < kTileSide; ++w) {
      if (w < row) before += warp_hits[w];
      num_hits += warp_hits[w];
    }
    if (hit) hits[before + __popc(word & ((1u << lane) - 1))] = candidate;
    __syncthreads();

    for (int h = 0; h < num_hits; ++h) {
      const int64_t roi = hits[h];
      locate_roi(args, roi, &place);
      const int64_t num_weights = (args.out_h + args.out_w) * kTileSide;
      for (int64_t i = threadIdx.x; i < num_weights; i += kBlockThreads) {
        const int64_t bin = i / kTileSide;
        const int cell = static_cast<int>(i % kTileSide);
        const bool is_y = bin < args.out_h;
        y_weights[i] = is_y ? bin_weight(place.y, bin, static_cast<int>(y_begin) + cell, static_cast<int>(level.height))
                            : bin_weight(place.x, bin - args.out_h, static_cast<int>(x_begin) + cell,
                                         static_cast<int>(level.width));
      }
      __syncthreads();
      if (has_cell) {
        const A count = sample_count(place.y, place.x);
        for (int64_t ph = 0; ph < args.out_h; ++ph) {
          const A y_weight = y_weights[ph * kTileSide + row];
          if (y_weight == A(0)) continue;
          for (int64_t pw = 0; pw < args.out_w; ++pw) {
            const A* weights = x_weights + pw * kTileSide;
            bool used = false;
#pragma unroll
            for (int x = 0; x < kTileSide; ++x) used |= weights[x] != A(0);
            if (!used) continue;
            const A grad = device_widen(pooled[pooled_offset(args, roi, channel, ph * args.out_w + pw)]) / count;
            // A cell that the bin does not touch stays as it is, also when the gradient is infinite.
#pragma unroll
            for (int x = 0; x < kTileSide; ++x) {
              if (weights[x] != A(0)) sums[x] += y_weight * weights[x] * grad;
            }
          }
        }
      }
      __syncthreads();
    }
  }

  if (!has_cell) return;
  T* data = static_cast<T*>(level.data) + image * level.stride_n + channel * level.stride_c +
            (y_begin + row) * level.stride_h;
#pragma unroll
  for (int x = 0; x < kTileSide; ++x) {
    if (x_begin + x < level.width) data[(x_begin + x) * level.stride_w] = device_narrow<T>(sums[x]);
  }
}

template <typename T>
cudaError_t launch_backward(const RoiAlignArgs& args, cudaStream_t stream) {
  TileTable tiles{};
  for (int l = 0; l < args.num_levels; ++l) {
    tiles.first[l] = tiles.total;
    tiles.columns[l] = (args.levels[l].width + kTileSide - 1) / kTileSide;
    tiles.total += tiles.columns[l] * ((args.levels[l].height + kTileSide - 1) / kTileSide);
  }
  const int64_t slices = (args.channels + kSlice - 1) / kSlice;
  const int64_t blocks = tiles.total * slices * args.batch;
  if (blocks == 0) return cudaSuccess;
  const size_t shared_bytes = (args.out_h + args.out_w) * kTileSide * sizeof(device_accumulator_t<T>);
  constexpr size_t kMostSharedBytes = 40 << 10;
  if (blocks > kMostBlocks || shared_bytes > kMostSharedBytes) return cudaErrorInvalidValue;
  roi_align_backward_kernel<T>
      <<<static_cast<unsigned>(blocks), kBlockThreads, shared_bytes, stream>>>(args, tiles, slices);
  return cudaGetLastError();
}

}  // namespace

int roi_align_forward_cuda(const RoiAlignArgs& args, void* stream_pointer) {
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_pointer);
  if (args.num_rois == 0 || args.channels == 0) return cudaSuccess;
  if (args.num_rois > kMostBlocks) return cudaErrorInvalidValue;
  return for_device_dtype(args.dtype, [&](auto zero) { return launch_forward<decltype(zero)>(args, stream); });
}

int roi_align_backward_cuda(const RoiAlignArgs& args, void* stream_pointer) {
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_pointer);
  return for_device_dtype(args.dtype, [&](auto zero) { return launch_backward<decltype(zero)>(args, stream); });
}

}  // namespace fastdet
