// Instance masks of a fixed side, resampled into the boxes of a full-size image and compared with a threshold.
//
// Source: He et al., "Mask R-CNN" (ICCV 2017), section 3.1; samples lie at pixel centres, with zeros around the mask, as
// in MMDetection.
#pragma once

#include <cmath>

#include "common.h"

namespace fastdet {

struct PasteMasksArgs {
  const float* masks;  // [count, side_h, side_w]
  const float* boxes;  // [count, 4] xyxy in pixels of the image
  int64_t count;
  int64_t side_h;
  int64_t side_w;
  int64_t height;
  int64_t width;
  float threshold;
  uint8_t* pasted;  // [count, height, width]: 1 where the mask reaches the threshold
};

void paste_masks_cpu(const PasteMasksArgs& args, ParallelRunner run);

// On a device; cudaError_t.
int paste_masks_cuda(const PasteMasksArgs& args, void* stream);

inline namespace FASTDET_ISA {

// Pixels of one axis that a mask over [low, high] can touch.
struct PasteWindow {
  int64_t begin;
  int64_t end;
};

FASTDET_HD int64_t pixel_within(float position, int64_t size) {
  if (!(position > 0.0f)) return 0;  // NaN too
  return position >= static_cast<float>(size) ? size : static_cast<int64_t>(position);
}

FASTDET_HD PasteWindow paste_window(float low, float high, int64_t size) {
  if (low != low || high != high) return {0, 0};
  const int64_t begin = pixel_within(static_cast<float>(floor(low)) - 1.0f, size);
  const int64_t end = pixel_within(static_cast<float>(ceil(high)) + 1.0f, size);
  return {begin, end < begin ? begin : end};
}

// The two cells that a pixel centre lies between, and their weights; a cell outside of the mask has weight 0.
struct PasteSample {
  int64_t cell;  // the first, within the mask
  int64_t next;
  float weight;
  float next_weight;
};

FASTDET_HD PasteSample paste_sample(int64_t pixel, float low, float high, int64_t side) {
  const float centre = static_cast<float>(pixel) + 0.5f;
  float position = exact_add(exact_mul((centre - low) / (high - low), 2.0f), -1.0f);  // [-1, 1] over the box
  if (position - position != 0.0f) position = 0.0f;  // a box without extent shows the mask's middle
  const float cell = exact_add(exact_mul(position + 1.0f, static_cast<float>(side)), -1.0f) / 2.0f;
  if (!(cell > -1.0f && cell < static_cast<float>(side))) return {0, 0, 0.0f, 0.0f};
  const float first = static_cast<float>(floor(cell));
  const int64_t index = static_cast<int64_t>(first);
  PasteSample sample{index, index + 1, 1.0f - (cell - first), cell - first};
  if (sample.cell < 0) {
    sample.cell = 0;
    sample.weight = 0.0f;
  }
  if (sample.next >= side) {
    sample.next = side - 1;
    sample.next_weight = 0.0f;
  }
  return sample;
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
