// Box arithmetic of NMS, shared by the CPU and CUDA twins. V is a float or a vector of floats.
#pragma once

#include <cstring>

#include "common.h"

namespace fastdet {
inline namespace FASTDET_ISA {

// Area of a box; an inverted box is empty. A NaN coordinate gives a NaN area, hence a box that takes part in nothing.
template <typename V>
FASTDET_HD V box_area(V x1, V y1, V x2, V y2) {
  const V zero = V{};
  const V width = x2 - x1;
  const V height = y2 - y1;
  return exact_mul(larger(zero, width), larger(zero, height));  // NaN stays NaN
}

template <typename V>
FASTDET_HD V intersection(V ax1, V ay1, V ax2, V ay2, V bx1, V by1, V bx2, V by2) {
  const V zero = V{};
  const V width = smaller(ax2, bx2) - larger(ax1, bx1);
  const V height = smaller(ay2, by2) - larger(ay1, by1);
  return exact_mul(larger(zero, width), larger(zero, height));  // NaN stays NaN
}

// Whether the IoU exceeds the threshold, without a division: inter > threshold * union. False for NaN.
template <typename V>
FASTDET_HD auto iou_exceeds(V inter, V area_a, V area_b, V threshold) {
  return inter > exact_mul(threshold, exact_add(area_a, area_b) - inter);
}

// The IoU that assignments compare with thresholds and with each other: the union is at least 1e-6, and the areas are
// not clamped, as in MMDetection.
template <typename V>
FASTDET_HD V assigned_iou(V inter, V object_area, V box_area) {
  const V smallest_union = V{} + 1e-6f;
  return inter / larger(exact_add(exact_add(object_area, box_area), -inter), smallest_union);
}

// Sort key of a score: ascending keys are descending scores, -0 equals +0, NaN comes last.
constexpr uint32_t kNanScoreKey = 0xFFFFFFFEu;
constexpr uint32_t kInvalidScoreKey = 0xFFFFFFFFu;

FASTDET_HD uint32_t score_key(float score) {
  if (score != score) return kNanScoreKey;
  if (score == 0.0f) score = 0.0f;
  uint32_t bits;
#if defined(__CUDA_ARCH__)
  bits = __float_as_uint(score);
#else
  std::memcpy(&bits, &score, sizeof(bits));
#endif
  const uint32_t ascending = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return ~ascending;
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
