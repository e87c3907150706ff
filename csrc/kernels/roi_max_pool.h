// Maximum pooling of RoIs over all levels of a feature pyramid: of the cells of each bin (RoIPool), or of bilinear
// samples in each bin (RoIAlign's samples).
//
// Source: Girshick, "Fast R-CNN" (ICCV 2015), section 2.1; the samples are those of He et al., "Mask R-CNN" (ICCV 2017).
#pragma once

#include "bilinear.h"
#include "roi_align.h"

namespace fastdet {

enum class RoiMaxMode : int {
  kSamples,  // RoIAlign's
  kRounded,  // cells; the RoI's corners are rounded to cells and both belong to it, as in Fast R-CNN and torchvision
  kExact,    // cells; corners are not rounded and x2, y2 lie a pixel further, as in MMCV
};

// `pooled` and `chosen` [num_rois, channels, out_h, out_w] in the same format: the maximum, and which it is: of cells
// y * width + x in the map, of samples y * samples along x + x in the bin. -1 where there is none, which gives 0. Ties
// take the first.
struct RoiMaxPoolArgs {
  RoiAlignArgs roi;
  RoiMaxMode mode;
  int32_t* chosen;
};

void roi_max_pool_forward_cpu(const RoiMaxPoolArgs& args, ParallelRunner run);

// Adds to the levels' data, which hold float for fp16 and bf16 gradients and whose rows are dense. Deterministic.
void roi_max_pool_backward_cpu(const RoiMaxPoolArgs& args, ParallelRunner run);

// On a device; cudaError_t. The backward pass adds atomically to levels of float (double for double gradients).
int roi_max_pool_forward_cuda(const RoiMaxPoolArgs& args, void* stream);
int roi_max_pool_backward_cuda(const RoiMaxPoolArgs& args, void* stream);

inline namespace FASTDET_ISA {

// One axis of a RoI: where bin p has its samples.
template <typename A>
struct RoiMaxAxis {
  RoiAxis<A> axis;  // start, size of a bin, samples of a bin (kSamples)
  A offset;         // kRounded: added after bins are rounded
  int size;         // cells of the map
  RoiMaxMode mode;
};

template <typename A>
FASTDET_HD RoiMaxAxis<A> roi_max_axis(const RoiMaxPoolArgs& args, A low, A high, A scale, int64_t bins, int64_t size) {
  RoiMaxAxis<A> result{{A(0), A(0), 0}, A(0), static_cast<int>(size), args.mode};
  if (args.mode == RoiMaxMode::kSamples) {
    result.axis = roi_axis(low, high, scale, bins, args.roi.sampling_ratio, args.roi.aligned);
    return result;
  }
  A start = exact_mul(low, scale);
  A end = exact_mul(args.mode == RoiMaxMode::kExact ? high + A(1) : high, scale);
  A length = end - start;
  if (args.mode == RoiMaxMode::kRounded) {
    start = A(round(start));
    length = larger(A(round(end)) - start + A(1), A(1));
  }
  const A bin = length / A(bins);
  if (!(start - start == A(0)) || !(bin - bin == A(0)) || !(bin > A(0))) return result;
  // With rounded corners bins are placed from 0, so that their borders round as in the peers.
  result.offset = args.mode == RoiMaxMode::kRounded ? start : A(0);
  result.axis = {args.mode == RoiMaxMode::kRounded ? A(0) : start, bin, 1};
  return result;
}

template <typename A>
FASTDET_HD int cell_within(A position, int size) {
  return position <= A(0) ? 0 : (position >= A(size) ? size : static_cast<int>(position));
}

struct CellRange {
  int64_t begin;
  int64_t end;
};

// Samples of a bin as numbers: all of RoIAlign's, or the cells in the map.
template <typename A>
FASTDET_HD CellRange samples_of(const RoiMaxAxis<A>& axis, int64_t bin) {
  if (axis.axis.grid <= 0) return {0, 0};
  if (axis.mode == RoiMaxMode::kSamples) return {0, axis.axis.grid};
  const A begin = exact_add(exact_mul(A(bin), axis.axis.bin), axis.axis.start);
  const A end = exact_add(exact_mul(A(bin + 1), axis.axis.bin), axis.axis.start);
  return {cell_within(A(floor(begin)) + axis.offset, axis.size), cell_within(A(ceil(end)) + axis.offset, axis.size)};
}

// Where sample `index` of a bin lies; `begin` is the first of the bin.
template <typename A>
FASTDET_HD AxisSample<A> sample_at(const RoiMaxAxis<A>& axis, int64_t bin, int64_t index) {
  if (axis.mode == RoiMaxMode::kSamples) return axis_sample(sample_position(axis.axis, bin, index), axis.size);
  return {static_cast<int>(index), static_cast<int>(index), A(1), A(0)};
}

// The cells that a sample reads, at most four, as offsets from the channel's origin.
template <typename A>
struct SampleTaps {
  int64_t offset[4];
  A weight[4];
  int count;
};

template <typename A>
FASTDET_HD SampleTaps<A> sample_taps(const AxisSample<A>& y, const AxisSample<A>& x, int64_t stride_h, int64_t stride_w) {
  SampleTaps<A> taps{{0, 0, 0, 0}, {A(0), A(0), A(0), A(0)}, 0};
  for (int corner = 0; corner < 4; ++corner) {
    const A weight = (corner < 2 ? y.low_weight : y.high_weight) * (corner % 2 == 0 ? x.low_weight : x.high_weight);
    if (weight == A(0)) continue;
    taps.offset[taps.count] = (corner < 2 ? y.low : y.high) * stride_h + (corner % 2 == 0 ? x.low : x.high) * stride_w;
    taps.weight[taps.count++] = weight;
  }
  return taps;
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
