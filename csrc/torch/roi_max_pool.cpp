// Maximum pooling of RoIs on the CPU.
#include "roi_max_pool.h"

namespace fastdet {
namespace {

void check_rois(const RoiAlignArgs& args) {
  const int64_t bad = roi_align_first_bad_roi(args);
  check(bad < 0, "`rois` row ", bad, " has a batch index or level that the ", args.batch, " images and ",
        args.num_levels, " levels do not have");
}

std::tuple<Tensor, Tensor> roi_max_pool(std::vector<Tensor> features, const Tensor& rois, std::optional<Tensor> levels,
                                        std::vector<double> spatial_scales, int64_t output_h, int64_t output_w,
                                        int64_t mode, int64_t sampling_ratio, bool aligned, double finest_scale,
                                        bool channels_last) {
  check(!features.empty(), "`features` must hold at least one level");
  const ScalarType dtype = features[0].scalar_type();
  RoiAlignArguments arguments(rois, levels, features.size(), dtype, spatial_scales, output_h, output_w, sampling_ratio,
                              aligned, finest_scale, channels_last);
  set_features(arguments, features, rois);
  check_rois(arguments.args);
  RoiMaxPoolArgs args = roi_max_pool_args(arguments, mode);
  const std::vector<int64_t> shape = {args.roi.num_rois, args.roi.channels, output_h, output_w};
  Tensor pooled = new_tensor(shape, dtype, rois, format_of(channels_last));
  Tensor chosen = new_tensor(shape, ScalarType::Int, rois, format_of(channels_last));
  args.roi.pooled = pooled.mutable_data_ptr();
  args.chosen = chosen.mutable_data_ptr<int32_t>();
  if (pooled.numel() > 0) roi_max_pool_forward_cpu(args, run_in_torch_pool);
  return {pooled, chosen};
}

std::vector<Tensor> roi_max_pool_backward(const Tensor& grad, const Tensor& chosen, const Tensor& rois,
                                          std::optional<Tensor> levels, std::vector<double> spatial_scales,
                                          int64_t batch, std::vector<int64_t> sizes, int64_t mode,
                                          int64_t sampling_ratio, bool aligned, double finest_scale,
                                          bool channels_last) {
  check_shape("grad", grad, {rois.size(0), -1, -1, -1});
  check_chosen(chosen, grad);
  const ScalarType dtype = grad.scalar_type();
  const Tensor plain_grad = torch::stable::contiguous(grad, format_of(channels_last));
  const Tensor plain_chosen = torch::stable::contiguous(chosen, format_of(channels_last));
  RoiAlignArguments arguments(rois, levels, spatial_scales.size(), dtype, spatial_scales, grad.size(2), grad.size(3),
                              sampling_ratio, aligned, finest_scale, channels_last);
  const std::vector<Tensor> result = zero_levels(arguments, grad, batch, sizes, channels_last);
  check_rois(arguments.args);
  RoiMaxPoolArgs args = roi_max_pool_args(arguments, mode);
  args.roi.pooled = const_cast<void*>(plain_grad.const_data_ptr());
  args.chosen = const_cast<int32_t*>(plain_chosen.const_data_ptr<int32_t>());
  if (grad.numel() > 0) roi_max_pool_backward_cpu(args, run_in_torch_pool);
  return narrowed(result, dtype);
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CPU, m) {
  m.impl("roi_max_pool", TORCH_BOX(&fastdet::roi_max_pool));
  m.impl("roi_max_pool_backward", TORCH_BOX(&fastdet::roi_max_pool_backward));
}
