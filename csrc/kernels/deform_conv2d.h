// Deformable convolution v1 and v2 on channels-last features, forward and backward.
//
// out[n, o, y, x] = bias[o] + sum over taps k and channels c of weight[o, c, k] * mask[n, k, y, x] *
//                   sample(input[n, c], y * stride - pad + dilation * k + offset[n, k, y, x])
//
// with bilinear samples and zeros outside of the map. Source: Dai et al., "Deformable Convolutional Networks" (ICCV
// 2017), eq. 2 and 3; the mask is Zhu et al., "Deformable ConvNets v2" (CVPR 2019), eq. 1. Offsets, masks and sums are
// float (double for double features) whatever the feature type is.
#pragma once

#include "common.h"

namespace fastdet {

struct DeformConv2dArgs {
  DType dtype;         // of input, weight, bias, output and their gradients
  const void* input;   // [batch, height, width, channels]
  const void* offset;  // [batch, offset_groups, taps, (dy, dx), out_h, out_w]
  const void* mask;    // [batch, offset_groups, taps, out_h, out_w], or null: ones
  const void* weight;  // [out_channels, channels / groups, taps]
  const void* bias;    // [out_channels], or null
  int64_t batch;
  int64_t channels;
  int64_t height;
  int64_t width;
  int64_t out_channels;
  int64_t out_h;
  int64_t out_w;
  int64_t kernel_h;
  int64_t kernel_w;
  int64_t stride_h;
  int64_t stride_w;
  int64_t padding_h;
  int64_t padding_w;
  int64_t dilation_h;
  int64_t dilation_w;
  int64_t groups;
  int64_t offset_groups;

  FASTDET_HD int64_t taps() const { return kernel_h * kernel_w; }
  FASTDET_HD int64_t positions() const { return out_h * out_w; }
};

// What the backward pass reads and writes; A is float, or double for double features.
struct DeformConv2dGradients {
  const void* output;  // [batch, out_h, out_w, out_channels], in `dtype`
  void* input;         // [batch, height, width, channels] of A, zeros on entry
  void* offset;        // as `offset`, of A
  void* mask;          // as `mask`, of A, or null
  void* weight;        // as `weight`, of A
};

// Writes [batch, out_h, out_w, out_channels], or [batch, out_channels, out_h, out_w].
void deform_conv2d_forward_cpu(const DeformConv2dArgs& args, void* output, bool channels_last, ParallelRunner run);

// Deterministic: the order of every sum is fixed by the sizes alone, not by the number of threads.
void deform_conv2d_backward_cpu(const DeformConv2dArgs& args, const DeformConv2dGradients& gradients,
                                ParallelRunner run);

// The steps of the same on a device, between which the caller multiplies matrices. Rows are output positions of all
// images, [begin, begin + count) of them; columns are [groups, rows, taps, channels of a group] in `dtype`. Both return
// a cudaError_t.
struct DeformRows {
  int64_t begin;
  int64_t count;
};

int deform_conv2d_columns_cuda(const DeformConv2dArgs& args, DeformRows rows, void* columns, void* stream);

// Where sums of the input's gradient are integers, which do not depend on their order.
struct DeformFixedPoint {
  int64_t* sums;     // [batch, height, width, channels], zeros on entry and on return; null: sums are floats
  uint64_t* bounds;  // [2]: bits of the largest magnitudes, as doubles, of the column gradients and of the mask
};

// From the gradient of the columns: adds to gradients.input and writes these rows of gradients.offset and .mask. Without
// `fixed` sums the additions are atomic ones of floats: their order, hence their last bits, may differ from run to run.
// With them the result is always the same, and all NaN if a gradient of a column or a mask is not finite.
int deform_conv2d_scatter_cuda(const DeformConv2dArgs& args, DeformRows rows, const void* column_gradients,
                               const DeformConv2dGradients& gradients, const DeformFixedPoint& fixed, void* stream);

}  // namespace fastdet
