// One RoI's pooling by blocks of threads: what the op's kernel and TensorRT's plugin share.
#pragma once

#include "bilinear.h"
#include "cuda_common.cuh"
#include "roi_align.h"

namespace fastdet {

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
__device__ __forceinline__ void pool_roi(const RoiAlignArgs& args) {
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

}  // namespace fastdet
