// Mask targets: instance masks kept as bitmaps of their boxes, cropped to boxes and resampled.
//
// Equals RoIAlign (aligned, adaptive sampling, average) of each full-size mask, where the mask is 0 outside its
// bitmap's window; summed in the order of the plain definition, so that the comparison with 0.5 that follows agrees
// with MMDetection's BitmapMasks.crop_and_resize.
#pragma once

#include "bilinear.h"

namespace fastdet {

struct CropMasksArgs {
  const uint8_t* bits;  // [num_bits]: all bitmaps, row-major, 0 or 1
  int64_t num_bits;
  const int64_t* offsets;  // [num_masks]: where each bitmap starts
  const int32_t* windows;  // [num_masks, 4]: x0, y0, width, height in image pixels
  int64_t num_masks;
  const int64_t* mask_index;  // [num_boxes]; negative: zeros
  const float* boxes;         // [num_boxes, 4] xyxy in image pixels
  int64_t num_boxes;
  int64_t side;  // output side
  int64_t image_h;
  int64_t image_w;
  float* crops;  // [num_boxes, side, side]
};

// The first box whose mask index is too large or whose bitmap does not lie inside `bits`, or -1.
int64_t crop_masks_first_bad_box(const CropMasksArgs& args);
void crop_masks_cpu(const CropMasksArgs& args, ParallelRunner run);
// On a device such a box gives zeros. Returns a cudaError_t.
int crop_masks_cuda(const CropMasksArgs& args, void* stream);

inline namespace FASTDET_ISA {

struct MaskWindow {
  const uint8_t* bits;
  int x0;
  int y0;
  int width;
  int height;
};

FASTDET_HD bool has_mask(const CropMasksArgs& args, int64_t mask) {
  if (mask < 0 || mask >= args.num_masks) return false;
  const int32_t* window = args.windows + mask * 4;
  const int64_t offset = args.offsets[mask];
  const int64_t size = static_cast<int64_t>(window[2]) * window[3];
  return window[2] >= 0 && window[3] >= 0 && offset >= 0 && offset <= args.num_bits - size;
}

FASTDET_HD MaskWindow mask_window(const CropMasksArgs& args, int64_t mask) {
  const int32_t* window = args.windows + mask * 4;
  return {args.bits + args.offsets[mask], window[0], window[1], window[2], window[3]};
}

FASTDET_HD float mask_value(const MaskWindow& window, int y, int x) {
  const int row = y - window.y0;
  const int column = x - window.x0;
  if (row < 0 || row >= window.height || column < 0 || column >= window.width) return 0.0f;
  return static_cast<float>(window.bits[static_cast<int64_t>(row) * window.width + column]);
}

// What one sample adds, in the order of the plain definition.
FASTDET_HD float mask_sample(const MaskWindow& window, const AxisSample<float>& y, const AxisSample<float>& x) {
  const float top_left = exact_mul(exact_mul(y.low_weight, x.low_weight), mask_value(window, y.low, x.low));
  const float top_right = exact_mul(exact_mul(y.low_weight, x.high_weight), mask_value(window, y.low, x.high));
  const float bottom_left = exact_mul(exact_mul(y.high_weight, x.low_weight), mask_value(window, y.high, x.low));
  const float bottom_right = exact_mul(exact_mul(y.high_weight, x.high_weight), mask_value(window, y.high, x.high));
  return exact_add(exact_add(exact_add(top_left, top_right), bottom_left), bottom_right);
}

// The samples of a bin that lie next to the window: no other adds anything. The border clamp moves samples by at
// most one pixel.
FASTDET_HD SampleRange samples_near(const RoiAxis<float>& axis, int64_t bin, int start, int length) {
  return samples_between(axis, bin, start - 1.0, start + length + 1.0);
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
