// RoIAlign ops on the CPU.
#include "../kernels/memory.h"
#include "roi_align.h"

namespace fastdet {
namespace {

void check_rois(const RoiAlignArgs& args) {
  const int64_t bad = roi_align_first_bad_roi(args);
  if (bad < 0) return;
  const double image = args.dtype == DType::kFloat64 ? static_cast<const double*>(args.rois)[bad * 5]
                                                     : static_cast<const float*>(args.rois)[bad * 5];
  if (!(image >= 0 && image < static_cast<double>(args.batch))) {
    check(false, "`rois` row ", bad, " has batch index ", image, ", but the features hold ", args.batch, " images");
  }
  check(false, "`levels` row ", bad, " is ", args.roi_levels[bad], ", but there are ", args.num_levels, " levels");
}

Tensor roi_align(std::vector<Tensor> features, const Tensor& rois, std::optional<Tensor> levels,
                 std::vector<double> spatial_scales, int64_t output_h, int64_t output_w, int64_t sampling_ratio,
                 bool aligned, double finest_scale, bool channels_last) {
  check(!features.empty(), "`features` must hold at least one level");
  const ScalarType dtype = features[0].scalar_type();
  RoiAlignArguments arguments(rois, levels, features.size(), dtype, spatial_scales, output_h, output_w, sampling_ratio,
                              aligned, finest_scale, channels_last);
  set_features(arguments, features, rois);
  RoiAlignArgs& args = arguments.args;
  check_rois(args);
  Tensor pooled = new_tensor({args.num_rois, args.channels, output_h, output_w}, dtype, rois, format_of(channels_last));
  if (pooled.numel() == 0) return pooled;
  args.pooled = pooled.mutable_data_ptr();
  prefer_large_pages(args.pooled, static_cast<size_t>(pooled.numel()) * pooled.element_size());
  roi_align_forward_cpu(args, run_in_torch_pool);
  return pooled;
}

std::vector<Tensor> roi_align_backward(const Tensor& grad, const Tensor& rois, std::optional<Tensor> levels,
                                       std::vector<double> spatial_scales, int64_t batch, std::vector<int64_t> sizes,
                                       int64_t sampling_ratio, bool aligned, double finest_scale, bool channels_last) {
  check_shape("grad", grad, {rois.size(0), -1, -1, -1});
  check(sizes.size() == 2 * spatial_scales.size(), "`sizes` must hold (H, W) of each level");
  const ScalarType dtype = grad.scalar_type();
  const Tensor pooled = torch::stable::contiguous(grad, format_of(channels_last));
  RoiAlignArguments arguments(rois, levels, spatial_scales.size(), dtype, spatial_scales, grad.size(2), grad.size(3),
                              sampling_ratio, aligned, finest_scale, channels_last);
  RoiAlignArgs& args = arguments.args;
  args.batch = batch;
  args.channels = grad.size(1);
  args.pooled = const_cast<void*>(pooled.const_data_ptr());
  std::vector<Tensor> result;
  for (size_t l = 0; l < spatial_scales.size(); ++l) {
    Tensor sums =
        new_tensor({batch, args.channels, sizes[2 * l], sizes[2 * l + 1]}, sum_dtype(dtype), rois, format_of(channels_last));
    prefer_large_pages(sums.mutable_data_ptr(), static_cast<size_t>(sums.numel()) * sums.element_size());
    arguments.set_level(l, sums, sums.mutable_data_ptr());
    result.push_back(sums);
  }
  check_rois(args);
  roi_align_backward_cpu(args, run_in_torch_pool);
  if (is_half(dtype)) {
    for (Tensor& sums : result) sums = torch::stable::to(sums, dtype);
  }
  return result;
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CPU, m) {
  m.impl("roi_align", TORCH_BOX(&fastdet::roi_align));
  m.impl("roi_align_backward", TORCH_BOX(&fastdet::roi_align_backward));
}
