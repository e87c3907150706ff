// RoIAlign on the GPU: one launch for all levels, forward and backward; both deterministic.
#include "bilinear.h"
#include "cuda_common.cuh"
#include "roi_align.h"
#include "roi_align_pool.cuh"

namespace fastdet {
namespace {

// A block of kBlockThreads; see pool_roi.
template <typename T, int kVector, bool kChannelsInside>
__global__ void __launch_bounds__(kBlockThreads) roi_align_forward_kernel(const __grid_constant__ RoiAlignArgs args) {
  pool_roi<T, kVector, kChannelsInside>(args);
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
