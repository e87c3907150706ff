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

inline ScalarType dtype_of(const std::vector<Tensor>& features) {
  check(!features.empty(), "`features` must hold at least one level");
  return features[0].scalar_type();
}

// The results of the forward pass, and the kernel's arguments; whether RoIs lie on an image is not checked here.
struct RoiMaxPoolResults {
  RoiMaxPoolResults(const std::vector<Tensor>& features, const Tensor& rois, const std::optional<Tensor>& levels,
                    const std::vector<double>& spatial_scales, int64_t output_h, int64_t output_w, int64_t mode,
                    int64_t sampling_ratio, bool aligned, double finest_scale, bool channels_last)
      : arguments(rois, levels, features.size(), dtype_of(features), spatial_scales, output_h, output_w, sampling_ratio,
                  aligned, finest_scale, channels_last) {
    set_features(arguments, features, rois);
    args = roi_max_pool_args(arguments, mode);
    const std::vector<int64_t> shape = {args.roi.num_rois, args.roi.channels, output_h, output_w};
    pooled = new_tensor(shape, features[0].scalar_type(), rois, format_of(channels_last));
    chosen = new_tensor(shape, ScalarType::Int, rois, format_of(channels_last));
    args.roi.pooled = pooled.mutable_data_ptr();
    args.chosen = chosen.mutable_data_ptr<int32_t>();
  }

  RoiAlignArguments arguments;
  RoiMaxPoolArgs args{};
  Tensor pooled;
  Tensor chosen;
};

// The contiguous gradient of the pooled values and choices, and the gradients of the levels in the type of sums, zeros.
struct RoiMaxPoolGradientTensors {
  RoiMaxPoolGradientTensors(const Tensor& grad, const Tensor& chosen_, const Tensor& rois,
                            const std::optional<Tensor>& roi_levels, const std::vector<double>& spatial_scales,
                            int64_t batch, const std::vector<int64_t>& sizes, int64_t mode, int64_t sampling_ratio,
                            bool aligned, double finest_scale, bool channels_last)
      : arguments(rois, roi_levels, spatial_scales.size(), grad.scalar_type(), spatial_scales, grad.size(2),
                  grad.size(3), sampling_ratio, aligned, finest_scale, channels_last) {
    check_shape("chosen", chosen_, {grad.size(0), grad.size(1), grad.size(2), grad.size(3)});
    check_dtype("chosen", chosen_, ScalarType::Int);
    check_same_device("chosen", chosen_, grad);
    pooled = torch::stable::contiguous(grad, format_of(channels_last));
    chosen = torch::stable::contiguous(chosen_, format_of(channels_last));
    check(sizes.size() == 2 * spatial_scales.size(), "`sizes` must hold (H, W) of each level");
    arguments.args.batch = batch;
    arguments.args.channels = grad.size(1);
    for (size_t l = 0; l < spatial_scales.size(); ++l) {
      Tensor sums = new_tensor({batch, grad.size(1), sizes[2 * l], sizes[2 * l + 1]}, sum_dtype(grad.scalar_type()),
                               grad, format_of(channels_last));
      torch::stable::zero_(sums);
      arguments.set_level(l, sums, sums.mutable_data_ptr());
      levels.push_back(sums);
    }
    args = roi_max_pool_args(arguments, mode);
    args.roi.pooled = const_cast<void*>(pooled.const_data_ptr());
    args.chosen = const_cast<int32_t*>(chosen.const_data_ptr<int32_t>());
  }

  // The levels in the type of the gradient.
  std::vector<Tensor> narrowed() const {
    std::vector<Tensor> result = levels;
    if (is_half(pooled.scalar_type())) {
      for (Tensor& level : result) level = torch::stable::to(level, pooled.scalar_type());
    }
    return result;
  }

  RoiAlignArguments arguments;
  RoiMaxPoolArgs args{};
  Tensor pooled;
  Tensor chosen;
  std::vector<Tensor> levels;
};

}  // namespace fastdet
