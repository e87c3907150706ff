// Arguments of the maximum pooling ops, checked once for both devices.
#pragma once

#include "../kernels/roi_max_pool.h"
#include "roi_align.h"

namespace fastdet {

// Everything but the levels' data, `pooled` and `chosen`.
inline RoiMaxPoolArgs roi_max_pool_args(const RoiAlignArguments& arguments, int64_t mode) {
  check(mode >= 0 && mode <= static_cast<int64_t>(RoiMaxMode::kExact), "`mode` must lie in [0, 2], got ", mode);
  for (int l = 0; l < arguments.args.num_levels; ++l) {
    const FeatureLevel& level = arguments.args.levels[l];
    check(level.height * level.width < int64_t{1} << 31, "`features` may have less than 2^31 cells a map, level ", l,
          " has ", level.height, " x ", level.width);
  }
  return {arguments.args, static_cast<RoiMaxMode>(mode), nullptr};
}

// The gradients of the levels in the type of sums, all zero, set as the arguments' levels.
inline std::vector<Tensor> zero_levels(RoiAlignArguments& arguments, const Tensor& grad, int64_t batch,
                                       const std::vector<int64_t>& sizes, bool channels_last) {
  check(sizes.size() == 2 * static_cast<size_t>(arguments.args.num_levels), "`sizes` must hold (H, W) of each level");
  arguments.args.batch = batch;
  arguments.args.channels = grad.size(1);
  std::vector<Tensor> levels;
  for (size_t l = 0; 2 * l < sizes.size(); ++l) {
    Tensor sums = new_tensor({batch, grad.size(1), sizes[2 * l], sizes[2 * l + 1]}, sum_dtype(grad.scalar_type()), grad,
                             format_of(channels_last));
    torch::stable::zero_(sums);
    arguments.set_level(l, sums, sums.mutable_data_ptr());
    levels.push_back(sums);
  }
  return levels;
}

// Those in the type of the gradient.
inline std::vector<Tensor> narrowed(std::vector<Tensor> levels, ScalarType dtype) {
  if (is_half(dtype)) {
    for (Tensor& level : levels) level = torch::stable::to(level, dtype);
  }
  return levels;
}

inline void check_chosen(const Tensor& chosen, const Tensor& grad) {
  check_shape("chosen", chosen, {grad.size(0), grad.size(1), grad.size(2), grad.size(3)});
  check_dtype("chosen", chosen, ScalarType::Int);
  check_same_device("chosen", chosen, grad);
}

}  // namespace fastdet
