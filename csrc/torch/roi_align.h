// Arguments of the RoIAlign ops, checked once for both devices.
#pragma once

#include "../kernels/roi_align.h"
#include "features.h"

namespace fastdet {

// Everything but the levels' data and `pooled`; the contiguous RoIs live here.
class RoiAlignArguments {
 public:
  RoiAlignArguments(const Tensor& rois, const std::optional<Tensor>& roi_levels, size_t num_levels, ScalarType dtype,
                    const std::vector<double>& spatial_scales, int64_t output_h, int64_t output_w,
                    int64_t sampling_ratio, bool aligned, double finest_scale, bool channels_last)
      : rois_(torch::stable::contiguous(rois)) {
    check(num_levels >= 1 && num_levels <= kMaxLevels, "`features` must hold 1 to ", kMaxLevels, " levels, got ",
          num_levels);
    check(spatial_scales.size() == num_levels, "`spatial_scales` must hold one scale a level: ", num_levels,
          " levels, ", spatial_scales.size(), " scales");
    check_shape("rois", rois, {-1, 5});
    check_dtype("rois", rois, dtype == ScalarType::Double ? ScalarType::Double : ScalarType::Float);
    check(output_h > 0 && output_w > 0, "`output_size` must be positive, got (", output_h, ", ", output_w, ")");
    check(finest_scale > 0.0, "`finest_scale` must be positive, got ", finest_scale);
    args.num_levels = static_cast<int>(num_levels);
    args.dtype = feature_dtype("features", dtype);
    args.rois = rois_.const_data_ptr();
    args.num_rois = rois.size(0);
    if (roi_levels) {
      check_shape("levels", *roi_levels, {args.num_rois});
      check_dtype("levels", *roi_levels, ScalarType::Long);
      check_same_device("levels", *roi_levels, rois);
      roi_levels_ = torch::stable::contiguous(*roi_levels);
      args.roi_levels = roi_levels_->const_data_ptr<int64_t>();
    }
    args.out_h = output_h;
    args.out_w = output_w;
    args.sampling_ratio = sampling_ratio > 0 ? sampling_ratio : 0;
    args.aligned = aligned;
    args.finest_scale = finest_scale;
    args.pooled_channels_last = channels_last;
    for (size_t l = 0; l < num_levels; ++l) args.levels[l].scale = spatial_scales[l];
  }

  void set_level(size_t index, const Tensor& tensor, void* data) {
    FeatureLevel& level = args.levels[index];
    level.data = data;
    level.height = tensor.size(2);
    level.width = tensor.size(3);
    level.stride_n = tensor.stride(0);
    level.stride_c = tensor.stride(1);
    level.stride_h = tensor.stride(2);
    level.stride_w = tensor.stride(3);
    constexpr int64_t kMaxSide = int64_t{1} << 30;
    check(level.height > 0 && level.width > 0 && level.height < kMaxSide && level.width < kMaxSide,
          "`features` must have cells, got ", shape_of(tensor), " at level ", index);
  }

  RoiAlignArgs args{};

 private:
  Tensor rois_;
  std::optional<Tensor> roi_levels_;
};

// Reads the levels of the forward pass into the arguments.
inline void set_features(RoiAlignArguments& arguments, const std::vector<Tensor>& features, const Tensor& rois) {
  const Tensor& first = features[0];
  for (size_t l = 0; l < features.size(); ++l) {
    check(first.dim() == 4, "`features` must have shape [B, C, H, W], got ", shape_of(first));
    check_shape("features", features[l], {first.size(0), first.size(1), -1, -1});
    check_dtype("features", features[l], first.scalar_type());
    check_same_device("features", features[l], rois);
    arguments.set_level(l, features[l], const_cast<void*>(features[l].const_data_ptr()));
  }
  arguments.args.batch = first.size(0);
  arguments.args.channels = first.size(1);
}

}  // namespace fastdet
