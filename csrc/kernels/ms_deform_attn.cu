// Multi-scale deformable attention on the GPU. The lanes of a group share one query's head: each locates its share of
// the samples and passes them round, and each owns some neighbouring channels.
#include "cuda_common.cuh"
#include "deform_taps.h"
#include "ms_deform_attn.h"

namespace fastdet {
namespace {

// Channels that one access reads: 16 bytes where the heads are aligned to them.
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount) Channels {
  T values[kCount];
};

// Lanes of a group: the least power of two whose lanes hold all channels, at most a warp.
int group_lanes(int64_t channels, int per_lane) {
  int lanes = 1;
  while (lanes < kWarpThreads && static_cast<int64_t>(lanes) * per_lane < channels) lanes *= 2;
  return lanes;
}

// One head of one query, and where it lies in each tensor.
struct Row {
  int64_t first_sample;  // of this head, in `weights`
  int64_t image;         // the head's channels of the image's first cell, in `value`
  int64_t output;        // in `output`
};

__device__ Row row_of(const MsDeformAttnArgs& args, int64_t index) {
  const int64_t head = index % args.heads;
  const int64_t image = index / args.heads / args.queries;
  return {index * args.samples(), (image * args.cells * args.heads + head) * args.channels, index * args.channels};
}

// A sample's cells counted from the first cell of all levels, and its weights times the attention's. `tap.inside` is
// false behind the last sample.
template <typename A>
struct Located {
  BilinearTap<A> tap;
  A attention;
  A height;
  A width;
};

template <typename A>
__device__ Located<A> locate(const MsDeformAttnArgs& args, const Row& row, int64_t sample, bool exists) {
  Located<A> located{};
  if (!exists) return located;
  const AttentionLevel level = args.levels[sample / args.points];
  const A* location = static_cast<const A*>(args.locations) + 2 * (row.first_sample + sample);
  located.attention = static_cast<const A*>(args.weights)[row.first_sample + sample];
  located.height = A(level.height);
  located.width = A(level.width);
  const A x = exact_add(exact_mul(location[0], located.width), A(-0.5));
  const A y = exact_add(exact_mul(location[1], located.height), A(-0.5));
  located.tap = bilinear_tap(y, x, level.height, level.width);
#pragma unroll
  for (int corner = 0; corner < 4; ++corner) {
    located.tap.cell[corner] += level.start;
    located.tap.weight[corner] *= located.attention;
  }
  return located;
}

// What the lanes of a group need of another lane's sample.
template <typename A>
struct Shared {
  int cell[4];
  A weight[4];
  bool inside;
};

template <typename A>
__device__ Shared<A> pass_round(const Located<A>& located, int from, int lanes) {
  Shared<A> shared;
  shared.inside = __shfl_sync(kAllLanes, static_cast<int>(located.tap.inside), from, lanes) != 0;
#pragma unroll
  for (int corner = 0; corner < 4; ++corner) {
    shared.cell[corner] = __shfl_sync(kAllLanes, static_cast<int>(located.tap.cell[corner]), from, lanes);
    shared.weight[corner] = __shfl_sync(kAllLanes, located.tap.weight[corner], from, lanes);
  }
  return shared;
}

// A group of `lanes` sums the channels of one row in a grid-stride loop, kCount of them a lane at a time; no shared
// memory; deterministic. All lanes of a warp stay in the loops together, since they exchange samples.
template <typename T, int kCount>
__global__ void __launch_bounds__(kBlockThreads)
    ms_deform_attn_forward_kernel(const __grid_constant__ MsDeformAttnArgs args, T* output, int lanes, int64_t rows) {
  using A = device_accumulator_t<T>;
  using P = Channels<T, kCount>;
  const int lane = threadIdx.x % lanes;
  const int64_t groups = static_cast<int64_t>(gridDim.x) * blockDim.x / lanes;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / lanes;
  const int64_t last = (rows + groups - 1) / groups * groups;
  const int64_t samples = args.samples(), cell_stride = args.heads * args.channels;
  for (int64_t index = first; index < last; index += groups) {
    const bool exists = index < rows;
    const Row row = row_of(args, exists ? index : 0);
    const T* image = static_cast<const T*>(args.value) + row.image;
    for (int64_t from = 0; from < args.channels; from += lanes * kCount) {
      const int64_t channel = from + lane * kCount;
      const bool owns = exists && channel < args.channels;
      A sums[kCount] = {};
      for (int64_t begin = 0; begin < samples; begin += lanes) {
        const Located<A> mine = locate<A>(args, row, begin + lane, exists && begin + lane < samples);
        const int count = static_cast<int>(samples - begin < lanes ? samples - begin : lanes);
#pragma unroll 4
        for (int j = 0; j < count; ++j) {
          const Shared<A> sample = pass_round(mine, j, lanes);
          if (!sample.inside || !owns) continue;
#pragma unroll
          for (int corner = 0; corner < 4; ++corner) {
            const P cell = *reinterpret_cast<const P*>(image + sample.cell[corner] * cell_stride + channel);
#pragma unroll
            for (int i = 0; i < kCount; ++i) sums[i] += sample.weight[corner] * device_widen(cell.values[i]);
          }
        }
      }
      if (!owns) continue;
      P out;
#pragma unroll
      for (int i = 0; i < kCount; ++i) out.values[i] = device_narrow<T>(sums[i]);
      *reinterpret_cast<P*>(output + row.output + channel) = out;
    }
  }
}

__device__ __forceinline__ void add_channels(float* to, const float (&values)[4]) {
#if __CUDA_ARCH__ >= 900
  atomicAdd(reinterpret_cast<float4*>(to), make_float4(values[0], values[1], values[2], values[3]));
#else
  for (int i = 0; i < 4; ++i) atomicAdd(to + i, values[i]);
#endif
}

template <typename A, int kCount>
__device__ __forceinline__ void add_channels(A* to, const A (&values)[kCount]) {
  for (int i = 0; i < kCount; ++i) atomicAdd(to + i, values[i]);
}

// As above; the values' gradient is added with atomics, in 16 bytes where the device has them. The four products of
// gradient and cells are reduced over the group and stay with the lane that located the sample, which writes the
// gradients of its location and weight once.
template <typename T, int kCount>
__global__ void __launch_bounds__(kBlockThreads)
    ms_deform_attn_backward_kernel(const __grid_constant__ MsDeformAttnArgs args,
                                   const __grid_constant__ MsDeformAttnGradients gradients, int lanes, int64_t rows) {
  using A = device_accumulator_t<T>;
  using P = Channels<T, kCount>;
  const int lane = threadIdx.x % lanes;
  const int64_t groups = static_cast<int64_t>(gridDim.x) * blockDim.x / lanes;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / lanes;
  const int64_t last = (rows + groups - 1) / groups * groups;
  const int64_t samples = args.samples(), cell_stride = args.heads * args.channels;
  for (int64_t index = first; index < last; index += groups) {
    const bool exists = index < rows;
    const Row row = row_of(args, exists ? index : 0);
    const T* image = static_cast<const T*>(args.value) + row.image;
    const T* slope_at = static_cast<const T*>(gradients.output) + row.output;
    A* image_gradient = static_cast<A*>(gradients.value) + row.image;
    for (int64_t begin = 0; begin < samples; begin += lanes) {
      const bool has_sample = exists && begin + lane < samples;
      const Located<A> mine = locate<A>(args, row, begin + lane, has_sample);
      const int count = static_cast<int>(samples - begin < lanes ? samples - begin : lanes);
      A my_dots[4] = {};
      for (int j = 0; j < count; ++j) {
        const Shared<A> sample = pass_round(mine, j, lanes);
        A dots[4] = {};
        for (int64_t channel = lane * kCount; exists && sample.inside && channel < args.channels;
             channel += lanes * kCount) {
          const P slope = *reinterpret_cast<const P*>(slope_at + channel);
#pragma unroll
          for (int corner = 0; corner < 4; ++corner) {
            const int64_t at = sample.cell[corner] * cell_stride + channel;
            const P cell = *reinterpret_cast<const P*>(image + at);
            A parts[kCount];
#pragma unroll
            for (int i = 0; i < kCount; ++i) {
              const A value = device_widen(slope.values[i]);
              dots[corner] += value * device_widen(cell.values[i]);
              parts[i] = sample.weight[corner] * value;
            }
            if (sample.weight[corner] != A(0)) add_channels(image_gradient + at, parts);
          }
        }
#pragma unroll
        for (int corner = 0; corner < 4; ++corner) {
          for (int away = lanes / 2; away > 0; away /= 2) {
            dots[corner] += __shfl_xor_sync(kAllLanes, dots[corner], away, lanes);
          }
          if (lane == j) my_dots[corner] = dots[corner];
        }
      }
      if (!has_sample) continue;
      const int64_t sample = row.first_sample + begin + lane;
      // The weights hold the attention's already: the value without it comes from the fractions.
      const TapValue<A> slope = tap_value(mine.tap, my_dots);
      const A y = mine.tap.y_fraction, x = mine.tap.x_fraction;
      A at[4];
#pragma unroll
      for (int corner = 0; corner < 4; ++corner) at[corner] = mine.tap.valid[corner] ? my_dots[corner] : A(0);
      static_cast<A*>(gradients.weights)[sample] =
          (A(1) - y) * ((A(1) - x) * at[0] + x * at[1]) + y * ((A(1) - x) * at[2] + x * at[3]);
      A* location = static_cast<A*>(gradients.locations) + 2 * sample;
      location[0] = mine.attention * mine.width * slope.x_slope;
      location[1] = mine.attention * mine.height * slope.y_slope;
    }
  }
}

bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

template <typename T>
int launch_forward(const MsDeformAttnArgs& args, void* output, cudaStream_t stream) {
  constexpr int kWide = 16 / sizeof(T);
  const int64_t rows = args.batch * args.queries * args.heads;
  T* to = static_cast<T*>(output);
  if (args.channels % kWide == 0 && aligned(args.value) && aligned(output)) {
    const int lanes = group_lanes(args.channels, kWide);
    ms_deform_attn_forward_kernel<T, kWide>
        <<<grid_blocks(rows * lanes), kBlockThreads, 0, stream>>>(args, to, lanes, rows);
  } else {
    const int lanes = group_lanes(args.channels, 1);
    ms_deform_attn_forward_kernel<T, 1><<<grid_blocks(rows * lanes), kBlockThreads, 0, stream>>>(args, to, lanes, rows);
  }
  return cudaGetLastError();
}

template <typename T>
int launch_backward(const MsDeformAttnArgs& args, const MsDeformAttnGradients& gradients, cudaStream_t stream) {
  constexpr int kWide = 4;  // what one access adds; 16 bytes of float
  const int64_t rows = args.batch * args.queries * args.heads;
  if (args.channels % kWide == 0 && aligned(args.value) && aligned(gradients.output) && aligned(gradients.value)) {
    const int lanes = group_lanes(args.channels, kWide);
    ms_deform_attn_backward_kernel<T, kWide>
        <<<grid_blocks(rows * lanes), kBlockThreads, 0, stream>>>(args, gradients, lanes, rows);
  } else {
    const int lanes = group_lanes(args.channels, 1);
    ms_deform_attn_backward_kernel<T, 1>
        <<<grid_blocks(rows * lanes), kBlockThreads, 0, stream>>>(args, gradients, lanes, rows);
  }
  return cudaGetLastError();
}

bool nothing_to_do(const MsDeformAttnArgs& args) { return args.batch == 0 || args.queries == 0 || args.heads == 0; }

}  // namespace

int ms_deform_attn_forward_cuda(const MsDeformAttnArgs& args, void* output, void* stream) {
  if (nothing_to_do(args)) return cudaSuccess;
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  return for_device_dtype(args.dtype, [&](auto zero) { return launch_forward<decltype(zero)>(args, output, s); });
}

int ms_deform_attn_backward_cuda(const MsDeformAttnArgs& args, const MsDeformAttnGradients& gradients, void* stream) {
  if (nothing_to_do(args)) return cudaSuccess;
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  return for_device_dtype(args.dtype, [&](auto zero) { return launch_backward<decltype(zero)>(args, gradients, s); });
}

}  // namespace fastdet
