// Maximum pooling of RoIs on the GPU: a thread makes whole values; the gradient is added atomically.
#include "cuda_common.cuh"
#include "roi_max_pool.h"

namespace fastdet {
namespace {

// One value of the result: its RoI, bin and channel, and where the RoI lies.
template <typename A>
struct Value {
  RoiMaxAxis<A> y;
  RoiMaxAxis<A> x;
  int64_t bin_y;
  int64_t bin_x;
  int64_t origin;  // of the channel, in elements of the level
  int level;
};

// False where the batch index or the level is out of range.
template <typename A>
__device__ __forceinline__ bool locate(const RoiMaxPoolArgs& args, int64_t index, Value<A>* value) {
  const RoiAlignArgs& roi = args.roi;
  const int64_t bins = roi.out_h * roi.out_w;
  const int64_t per_roi = roi.channels * bins;
  const int64_t inside = index % per_roi;
  const int64_t bin = roi.pooled_channels_last ? inside / roi.channels : inside % bins;
  const int64_t channel = roi.pooled_channels_last ? inside % roi.channels : inside / bins;
  const A* box = static_cast<const A*>(roi.rois) + index / per_roi * 5;
  if (!(box[0] >= A(0) && box[0] < A(roi.batch))) return false;
  if (roi.roi_levels == nullptr) {
    value->level =
        pyramid_level(box[1], box[2], box[3], box[4], static_cast<A>(roi.finest_scale), roi.num_levels);
  } else {
    const int64_t level = roi.roi_levels[index / per_roi];
    if (level < 0 || level >= roi.num_levels) return false;
    value->level = static_cast<int>(level);
  }
  const FeatureLevel& map = roi.levels[value->level];
  const A scale = static_cast<A>(map.scale);
  value->y = roi_max_axis(args, box[2], box[4], scale, roi.out_h, map.height);
  value->x = roi_max_axis(args, box[1], box[3], scale, roi.out_w, map.width);
  value->bin_y = bin / roi.out_w;
  value->bin_x = bin % roi.out_w;
  value->origin = static_cast<int64_t>(box[0]) * map.stride_n + channel * map.stride_c;
  return true;
}

template <typename T>
__global__ void roi_max_pool_kernel(const __grid_constant__ RoiMaxPoolArgs args) {
  using A = device_accumulator_t<T>;
  const RoiAlignArgs& roi = args.roi;
  const int64_t total = roi.num_rois * roi.channels * roi.out_h * roi.out_w;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += step) {
    Value<A> value;
    A best = A(0);
    int32_t chosen = -1;
    if (locate(args, i, &value)) {
      const FeatureLevel& level = roi.levels[value.level];
      const T* plane = static_cast<const T*>(level.data) + value.origin;
      const CellRange ys = samples_of(value.y, value.bin_y), xs = samples_of(value.x, value.bin_x);
      int32_t number = 0;
      for (int64_t yi = ys.begin; yi < ys.end; ++yi) {
        const AxisSample<A> y = sample_at(value.y, value.bin_y, yi);
        for (int64_t xi = xs.begin; xi < xs.end; ++xi, ++number) {
          const SampleTaps<A> taps =
              sample_taps(y, sample_at(value.x, value.bin_x, xi), level.stride_h, level.stride_w);
          A sum = A(0);
          for (int t = 0; t < taps.count; ++t) sum += taps.weight[t] * device_widen(plane[taps.offset[t]]);
          if (number != 0 && !(sum > best)) continue;
          best = sum;
          chosen = args.mode == RoiMaxMode::kSamples ? number : static_cast<int32_t>(yi * level.width + xi);
        }
      }
    }
    static_cast<T*>(roi.pooled)[i] = device_narrow<T>(best);
    args.chosen[i] = chosen;
  }
}

template <typename T>
__global__ void roi_max_pool_slope_kernel(const __grid_constant__ RoiMaxPoolArgs args) {
  using A = device_accumulator_t<T>;
  const RoiAlignArgs& roi = args.roi;
  const int64_t total = roi.num_rois * roi.channels * roi.out_h * roi.out_w;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += step) {
    Value<A> value;
    const int32_t chosen = args.chosen[i];
    if (chosen < 0 || !locate(args, i, &value)) continue;
    const FeatureLevel& level = roi.levels[value.level];
    A* plane = static_cast<A*>(level.data) + value.origin;
    const A grad = device_widen(static_cast<const T*>(roi.pooled)[i]);
    if (args.mode != RoiMaxMode::kSamples) {
      atomicAdd(plane + chosen * level.stride_w, grad);
      continue;
    }
    const CellRange ys = samples_of(value.y, value.bin_y), xs = samples_of(value.x, value.bin_x);
    const int64_t columns = xs.end - xs.begin;
    const SampleTaps<A> taps =
        sample_taps(sample_at(value.y, value.bin_y, ys.begin + chosen / columns),
                    sample_at(value.x, value.bin_x, xs.begin + chosen % columns), level.stride_h, level.stride_w);
    for (int t = 0; t < taps.count; ++t) atomicAdd(plane + taps.offset[t], taps.weight[t] * grad);
  }
}

template <typename T>
cudaError_t launch(const RoiMaxPoolArgs& args, bool backward, cudaStream_t stream) {
  const int64_t total = args.roi.num_rois * args.roi.channels * args.roi.out_h * args.roi.out_w;
  if (total == 0) return cudaSuccess;
  if (backward) roi_max_pool_slope_kernel<T><<<grid_blocks(total), kBlockThreads, 0, stream>>>(args);
  else roi_max_pool_kernel<T><<<grid_blocks(total), kBlockThreads, 0, stream>>>(args);
  return cudaGetLastError();
}

int launch_of_any(const RoiMaxPoolArgs& args, bool backward, void* stream_pointer) {
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_pointer);
  return for_device_dtype(args.roi.dtype, [&](auto zero) { return launch<decltype(zero)>(args, backward, stream); });
}

}  // namespace

int roi_max_pool_forward_cuda(const RoiMaxPoolArgs& args, void* stream) { return launch_of_any(args, false, stream); }

int roi_max_pool_backward_cuda(const RoiMaxPoolArgs& args, void* stream) { return launch_of_any(args, true, stream); }

}  // namespace fastdet
