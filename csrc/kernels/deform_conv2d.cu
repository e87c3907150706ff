// Columns of a deformable convolution, and their gradient, on the GPU. The matrix products are the caller's.
#include "cuda_common.cuh"
#include "deform_conv2d.h"
#include "deform_place.cuh"
#include "fixed_point.h"

namespace fastdet {
namespace {

// Channels that one access reads: 16 bytes where the groups are aligned to them.
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
  T values[kCount];
};

// One warp's work: an output position, a tap and an offset group, whose channels all sample the same place.
template <typename A>
struct Place {
  BilinearTap<A> tap;
  A mask;
  int64_t image;
  int64_t plane;     // of `mask`; `offset` has two planes for each
  int64_t position;  // in the image
  int64_t row;       // in the columns
  int64_t kernel_tap;
  int64_t first_channel;
};

template <typename A>
__device__ Place<A> place_of(const DeformConv2dArgs& args, DeformRows rows, int64_t index) {
  Place<A> place;
  const int64_t offset_group = index % args.offset_groups;
  place.kernel_tap = index / args.offset_groups % args.taps();
  place.row = index / (args.offset_groups * args.taps());
  const int64_t row = rows.begin + place.row;
  place.image = row / args.positions();
  place.position = row % args.positions();
  place.plane = (place.image * args.offset_groups + offset_group) * args.taps() + place.kernel_tap;
  place.first_channel = offset_group * (args.channels / args.offset_groups);
  const DeformPlace<A> sampled = deform_place<A>(args, place.plane, place.kernel_tap, place.position);
  place.tap = sampled.tap;
  place.mask = sampled.mask;
  return place;
}

template <typename A>
__device__ int64_t column_at(const DeformConv2dArgs& args, DeformRows rows, const Place<A>& place, int64_t channel) {
  const int64_t group_size = args.channels / args.groups;
  const int64_t group = channel / group_size;
  return ((group * rows.count + place.row) * args.taps() + place.kernel_tap) * group_size + channel % group_size;
}

// A warp makes the channels of whole places in a grid-stride loop, a lane kCount channels at a time; sums in A; no
// shared memory; deterministic.
template <typename T, int kCount>
__global__ void deform_columns_kernel(const __grid_constant__ DeformConv2dArgs args, DeformRows rows, T* columns) {
  using A = device_accumulator_t<T>;
  using P = Pack<T, kCount>;
  const int lane = threadIdx.x % kWarpThreads;
  const int64_t total = rows.count * args.taps() * args.offset_groups;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x / kWarpThreads;
  const int64_t share = args.channels / args.offset_groups;
  int64_t index = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kWarpThreads;
  for (; index < total; index += step) {
    const Place<A> place = place_of<A>(args, rows, index);
    const T* image = static_cast<const T*>(args.input) + place.image * args.height * args.width * args.channels;
    for (int64_t c = lane * kCount; c < share; c += kWarpThreads * kCount) {
      const int64_t channel = place.first_channel + c;
      A sums[kCount] = {};
      if (place.tap.inside) {
#pragma unroll
        for (int corner = 0; corner < 4; ++corner) {
          const A weight = place.tap.weight[corner] * place.mask;
          const P cells = *reinterpret_cast<const P*>(image + place.tap.cell[corner] * args.channels + channel);
#pragma unroll
          for (int i = 0; i < kCount; ++i) sums[i] += weight * device_widen(cells.values[i]);
        }
      }
      P out;
#pragma unroll
      for (int i = 0; i < kCount; ++i) out.values[i] = device_narrow<T>(sums[i]);
      *reinterpret_cast<P*>(columns + column_at(args, rows, place, channel)) = out;
    }
  }
}

// Raises `bound` to the bits of the largest magnitude of the values. Bits order like magnitudes, those of NaN come last.
// A grid-stride loop; one atomic maximum a warp, which no order changes.
template <typename T>
__global__ void largest_magnitude_kernel(const T* values, int64_t count, uint64_t* bound) {
  unsigned long long most = 0;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    const unsigned long long bits = __double_as_longlong(fabs(static_cast<double>(device_widen(values[i]))));
    most = bits > most ? bits : most;
  }
  for (int away = kWarpThreads / 2; away > 0; away /= 2) {
    const unsigned long long other = __shfl_xor_sync(kAllLanes, most, away);
    most = other > most ? other : most;
  }
  if (threadIdx.x % kWarpThreads == 0) atomicMax(reinterpret_cast<unsigned long long*>(bound), most);
}

// The scale of the input's gradient, of which a cell sums at most one term for each row and tap; 0 if a term may not be
// finite.
__device__ __forceinline__ double term_scale(const DeformConv2dArgs& args, DeformRows rows,
                                             const DeformFixedPoint& fixed) {
  const double mask = args.mask == nullptr ? 1.0 : __longlong_as_double(fixed.bounds[1]);
  const double bound = __longlong_as_double(fixed.bounds[0]) * mask;
  return isfinite(bound) ? fixed_point_scale(bound, rows.count * args.taps()) : 0.0;
}

// Adds the integer sums to the gradient and clears them, a value a thread.
template <typename A>
__global__ void settle_kernel(const __grid_constant__ DeformConv2dArgs args, DeformRows rows,
                              const DeformFixedPoint fixed, A* gradient) {
  const double scale = term_scale(args, rows, fixed);
  const int64_t size = args.batch * args.height * args.width * args.channels;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < size; i += step) {
    gradient[i] += scale > 0.0 ? static_cast<A>(from_fixed_point(fixed.sums[i], scale)) : static_cast<A>(nan(""));
    fixed.sums[i] = 0;
  }
}

// A warp takes whole places in a grid-stride loop: lanes add their channels to the input's gradient with atomics, of
// integers if `fixed` has sums, and reduce the four products of gradient and cells, from which lane 0 writes the
// offset's and the mask's gradient once.
template <typename T>
__global__ void deform_scatter_kernel(const __grid_constant__ DeformConv2dArgs args, DeformRows rows, const T* slopes,
                                      const __grid_constant__ DeformConv2dGradients gradients,
                                      const DeformFixedPoint fixed) {
  using A = device_accumulator_t<T>;
  const double scale = fixed.sums == nullptr ? 0.0 : term_scale(args, rows, fixed);
  const int lane = threadIdx.x % kWarpThreads;
  const int64_t total = rows.count * args.taps() * args.offset_groups;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x / kWarpThreads;
  const int64_t share = args.channels / args.offset_groups;
  int64_t index = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kWarpThreads;
  for (; index < total; index += step) {
    const Place<A> place = place_of<A>(args, rows, index);
    const int64_t image_at = place.image * args.height * args.width * args.channels;
    const T* image = static_cast<const T*>(args.input) + image_at;
    A* image_gradient = static_cast<A*>(gradients.input) + image_at;
    A dots[4] = {};
    for (int64_t c = lane; place.tap.inside && c < share; c += kWarpThreads) {
      const int64_t channel = place.first_channel + c;
      const A slope = device_widen(slopes[column_at(args, rows, place, channel)]);
#pragma unroll
      for (int corner = 0; corner < 4; ++corner) {
        if (!place.tap.valid[corner]) continue;
        const int64_t at = place.tap.cell[corner] * args.channels + channel;
        dots[corner] += slope * device_widen(image[at]);
        const A term = place.tap.weight[corner] * place.mask * slope;
        if (fixed.sums == nullptr) {
          atomicAdd(image_gradient + at, term);
        } else if (scale > 0.0) {
          atomicAdd(reinterpret_cast<unsigned long long*>(fixed.sums + image_at + at),
                    static_cast<unsigned long long>(to_fixed_point(term, scale)));
        }
      }
    }
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      for (int away = kWarpThreads / 2; away > 0; away /= 2) {
        dots[corner] += __shfl_xor_sync(kAllLanes, dots[corner], away);
      }
    }
    if (lane == 0) {
      const TapValue<A> slope = tap_value(place.tap, dots);
      A* offset = static_cast<A*>(gradients.offset) + 2 * place.plane * args.positions() + place.position;
      offset[0] = place.mask * slope.y_slope;
      offset[args.positions()] = place.mask * slope.x_slope;
      if (gradients.mask != nullptr) {
        static_cast<A*>(gradients.mask)[place.plane * args.positions() + place.position] = slope.value;
      }
    }
  }
}

template <typename T>
int launch_columns(const DeformConv2dArgs& args, DeformRows rows, void* columns, cudaStream_t stream) {
  constexpr int kWide = 16 / sizeof(T);
  const int64_t warps = rows.count * args.taps() * args.offset_groups;
  const unsigned blocks = grid_blocks(warps * kWarpThreads);
  const bool aligned = args.channels / args.offset_groups % kWide == 0 && args.channels / args.groups % kWide == 0 &&
                       reinterpret_cast<uintptr_t>(args.input) % 16 == 0;
  T* to = static_cast<T*>(columns);
  if (aligned) {
    deform_columns_kernel<T, kWide><<<blocks, kBlockThreads, 0, stream>>>(args, rows, to);
  } else {
    deform_columns_kernel<T, 1><<<blocks, kBlockThreads, 0, stream>>>(args, rows, to);
  }
  return cudaGetLastError();
}

template <typename T>
int launch_scatter(const DeformConv2dArgs& args, DeformRows rows, const void* column_gradients,
                   const DeformConv2dGradients& gradients, const DeformFixedPoint& fixed, cudaStream_t stream) {
  using A = device_accumulator_t<T>;
  const T* slopes = static_cast<const T*>(column_gradients);
  const int64_t warps = rows.count * args.taps() * args.offset_groups;
  if (fixed.sums != nullptr) {
    cudaError_t error = cudaMemsetAsync(fixed.bounds, 0, 2 * sizeof(uint64_t), stream);
    if (error != cudaSuccess) return error;
    const int64_t columns = rows.count * args.taps() * args.channels;
    largest_magnitude_kernel<<<grid_blocks(columns), kBlockThreads, 0, stream>>>(slopes, columns, fixed.bounds);
    if (args.mask != nullptr) {
      const int64_t size = args.batch * args.offset_groups * args.taps() * args.positions();
      largest_magnitude_kernel<<<grid_blocks(size), kBlockThreads, 0, stream>>>(static_cast<const A*>(args.mask), size,
                                                                                fixed.bounds + 1);
    }
    error = cudaGetLastError();
    if (error != cudaSuccess) return error;
  }
  deform_scatter_kernel<T><<<grid_blocks(warps * kWarpThreads), kBlockThreads, 0, stream>>>(args, rows, slopes,
                                                                                             gradients, fixed);
  if (fixed.sums != nullptr) {
    const int64_t size = args.batch * args.height * args.width * args.channels;
    settle_kernel<<<grid_blocks(size), kBlockThreads, 0, stream>>>(args, rows, fixed, static_cast<A*>(gradients.input));
  }
  return cudaGetLastError();
}

}  // namespace

int deform_conv2d_columns_cuda(const DeformConv2dArgs& args, DeformRows rows, void* columns, void* stream) {
  if (rows.count == 0) return cudaSuccess;
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  return for_device_dtype(args.dtype, [&](auto zero) {
    return launch_columns<decltype(zero)>(args, rows, columns, s);
  });
}

int deform_conv2d_scatter_cuda(const DeformConv2dArgs& args, DeformRows rows, const void* column_gradients,
                               const DeformConv2dGradients& gradients, const DeformFixedPoint& fixed, void* stream) {
  if (rows.count == 0) return cudaSuccess;
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  return for_device_dtype(args.dtype, [&](auto zero) {
    return launch_scatter<decltype(zero)>(args, rows, column_gradients, gradients, fixed, s);
  });
}

}  // namespace fastdet
