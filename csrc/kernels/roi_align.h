// RoIAlign over all levels of a feature pyramid in one call, forward and backward.
//
// Source: He et al., "Mask R-CNN" (ICCV 2017), section 3; levels as in Lin et al., "Feature Pyramid Networks" (CVPR
// 2017), eq. 1. Coordinates and sums are float (double for double features) whatever the feature type is.
#pragma once

#include "common.h"

namespace fastdet {

constexpr int kMaxLevels = 16;

struct FeatureLevel {
  void* data;  // [batch, channels, height, width] with the strides below, in elements; only read by the forward pass
  int64_t height;
  int64_t width;
  int64_t stride_n;
  int64_t stride_c;
  int64_t stride_h;
  int64_t stride_w;
  double scale;  // cells per input pixel
};

struct RoiAlignArgs {
  FeatureLevel levels[kMaxLevels];
  int num_levels;
  DType dtype;
  int64_t batch;
  int64_t channels;
  const void* rois;           // [num_rois, 5]: batch index, x1, y1, x2, y2; float, or double for double features
  const int64_t* roi_levels;  // [num_rois], or null: by box size
  int64_t num_rois;
  int64_t out_h;
  int64_t out_w;
  int64_t sampling_ratio;  // samples per bin and axis; 0: as many as the bin has cells
  bool aligned;            // half-pixel shift
  double finest_scale;
  void* pooled;  // [num_rois, channels, out_h, out_w]; only read by the backward pass
  bool pooled_channels_last;
};

// The first RoI whose batch index or level is out of range, or -1.
int64_t roi_align_first_bad_roi(const RoiAlignArgs& args);

void roi_align_forward_cpu(const RoiAlignArgs& args, ParallelRunner run);

// Writes every cell of the levels' data, which hold float for fp16 and bf16 gradients, so that sums stay exact enough;
// `pooled` has type `dtype`. The rows of a level are dense. Deterministic: each cell is summed in RoI order.
void roi_align_backward_cpu(const RoiAlignArgs& args, ParallelRunner run);

// On a device: RoIs with a batch index or level out of range give zeros and take no gradient. The backward pass
// writes every cell of the levels once, in `dtype`, and is deterministic. Both return a cudaError_t.
int roi_align_forward_cuda(const RoiAlignArgs& args, void* stream);
int roi_align_backward_cuda(const RoiAlignArgs& args, void* stream);

}  // namespace fastdet
