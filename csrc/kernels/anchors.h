// Anchors of a dense head: every base anchor at every cell of every level.
#pragma once

#include "common.h"

namespace fastdet {

struct AnchorLevel {
  int64_t height;
  int64_t width;
  float stride_x;  // input pixels per cell
  float stride_y;
  int64_t first;  // anchors before this level
};

constexpr int kMaxAnchorLevels = 16;

struct GridAnchorsArgs {
  AnchorLevel levels[kMaxAnchorLevels];
  int num_levels;
  int64_t num_base;   // base anchors per cell
  const float* base;  // [num_levels, num_base, 4] xyxy around the origin
  float* anchors;     // [total, 4] in the order level, y, x, base
  int64_t total;
};

void grid_anchors_cpu(const GridAnchorsArgs& args, ParallelRunner run);
int grid_anchors_cuda(const GridAnchorsArgs& args, void* stream);

inline namespace FASTDET_ISA {

// A base anchor at cell (y, x), shared by the twins.
FASTDET_HD void shift_anchor(const AnchorLevel& level, const float* base, int64_t y, int64_t x, float* out) {
  const float shift_x = exact_mul(static_cast<float>(x), level.stride_x);
  const float shift_y = exact_mul(static_cast<float>(y), level.stride_y);
  out[0] = exact_add(base[0], shift_x);
  out[1] = exact_add(base[1], shift_y);
  out[2] = exact_add(base[2], shift_x);
  out[3] = exact_add(base[3], shift_y);
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
