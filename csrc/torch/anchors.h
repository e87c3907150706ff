// Arguments of grid_anchors, checked once for both devices.
#pragma once

#include "../kernels/anchors.h"
#include "common.h"

namespace fastdet {

// Everything but `base` and `anchors`.
inline GridAnchorsArgs grid_anchors_args(const Tensor& base_anchors, const std::vector<int64_t>& sizes,
                                         const std::vector<double>& strides) {
  check_shape("base_anchors", base_anchors, {-1, -1, 4});
  check_dtype("base_anchors", base_anchors, ScalarType::Float);
  const int64_t num_levels = base_anchors.size(0);
  check(num_levels <= kMaxAnchorLevels, "`base_anchors` may hold ", kMaxAnchorLevels, " levels, got ", num_levels);
  check(static_cast<int64_t>(sizes.size()) == 2 * num_levels, "`sizes` must hold (H, W) of each of the ", num_levels,
        " levels");
  check(static_cast<int64_t>(strides.size()) == 2 * num_levels, "`strides` must hold (x, y) of each of the ",
        num_levels, " levels");
  GridAnchorsArgs args{};
  args.num_levels = static_cast<int>(num_levels);
  args.num_base = base_anchors.size(1);
  for (int64_t l = 0; l < num_levels; ++l) {
    check(sizes[2 * l] >= 0 && sizes[2 * l + 1] >= 0, "`sizes` must not be negative, got (", sizes[2 * l], ", ",
          sizes[2 * l + 1], ") at level ", l);
    args.levels[l] = {sizes[2 * l], sizes[2 * l + 1], static_cast<float>(strides[2 * l]),
                      static_cast<float>(strides[2 * l + 1]), args.total};
    args.total += sizes[2 * l] * sizes[2 * l + 1] * args.num_base;
  }
  return args;
}

}  // namespace fastdet
