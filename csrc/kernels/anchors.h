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
  int64_t num_base;       // base anchors per cell
  const float* base;      // [num_levels, num_base, 4] xyxy around the origin
  float* anchors;         // [total, 4] in the order level, y, x, base
  int64_t total;
};

void grid_anchors_cpu(const GridAnchorsArgs& args, ParallelRunner run);
int grid_anchors_cuda(const GridAnchorsArgs& args, void* stream);

inline namespace FASTDET_ISA {

// Anchor `index` of a level, shared by the twins.
FASTDET_HD void grid_anchor(const AnchorLevel& level, const float* base, int64_t num_base, int64_t index, float* out) {
  const int64_t cell = index / num_base;
  const float* anchor = base + index % num_base * 4;
  const float shift_x = exact_mul(static_cast<float>(cell % level.width), level.stride_x);
  const float shift_y = exact_mul(static_cast<float>(cell / level.width), level.stride_y);
  out[0] = exact_add(anchor[0], shift_x);
  out[1] = exact_add(anchor[1], shift_y);
  out[2] = exact_add(anchor[2], shift_x);
  out[3] = exact_add(anchor[3], shift_y);
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
