// Maximum pooling of RoIs on the GPU.
#include "roi_max_pool.h"

#include "cuda_common.h"

namespace fastdet {
namespace {

std::tuple<Tensor, Tensor> roi_max_pool(std::vector<Tensor> features, const Tensor& rois, std::optional<Tensor> levels,
                                        std::vector<double> spatial_scales, int64_t output_h, int64_t output_w,
                                        int64_t mode, int64_t sampling_ratio, bool aligned, double finest_scale,
                                        bool channels_last) {
  check(!features.empty(), "`features` must hold at least one level");
  const DeviceGuard guard(rois.get_device_index());
  const ScalarType dtype = features[0].scalar_type();
  RoiAlignArguments arguments(rois, levels, features.size(), dtype, spatial_scales, output_h, output_w, sampling_ratio,
                              aligned, finest_scale, channels_last);
  set_features(arguments, features, rois);
  RoiMaxPoolArgs args = roi_max_pool_args(arguments, mode);
  const std::vector<int64_t> shape = {args.roi.num_rois, args.roi.channels, output_h, output_w};
  Tensor pooled = new_tensor(shape, dtype, rois, format_of(channels_last));
  Tensor chosen = new_tensor(shape, ScalarType::Int, rois, format_of(channels_last));
  args.roi.pooled = pooled.mutable_data_ptr();
  args.chosen = chosen.mutable_data_ptr<int32_t>();
  check_cuda("roi_max_pool", roi_max_pool_forward_cuda(args, current_stream(rois)));
  return {pooled, chosen};
}

std::vector<Tensor> roi_max_pool_backward(const Tensor& grad, const Tensor& chosen, const Tensor& rois,
                                          std::optional<Tensor> levels, std::vector<double> spatial_scales,
                                          int64_t batch, std::vector<int64_t> sizes, int64_t mode,
                                          int64_t sampling_ratio, bool aligned, double finest_scale,
                                          bool channels_last) {
  check_shape("grad", grad, {rois.size(0), -1, -1, -1});
  check_chosen(chosen, grad);
  const DeviceGuard guard(rois.get_device_index());
  const ScalarType dtype = grad.scalar_type();
  const Tensor plain_grad = torch::stable::contiguous(grad, format_of(channels_last));
  const Tensor plain_chosen = torch::stable::contiguous(chosen, format_of(channels_last));
  RoiAlignArguments arguments(rois, levels, spatial_scales.size(), dtype, spatial_scales, grad.size(2), grad.size(3),
                              sampling_ratio, aligned, finest_scale, channels_last);
  const std::vector<Tensor> result = zero_levels(arguments, grad, batch, sizes, channels_last);
  RoiMaxPoolArgs args = roi_max_pool_args(arguments, mode);
  args.roi.pooled = const_cast<void*>(plain_grad.const_data_ptr());
  args.chosen = const_cast<int32_t*>(plain_chosen.const_data_ptr<int32_t>());
  check_cuda("roi_max_pool_backward", roi_max_pool_backward_cuda(args, current_stream(rois)));
  return narrowed(result, dtype);
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CUDA, m) {
  m.impl("roi_max_pool", TORCH_BOX(&fastdet::roi_max_pool));
  m.impl("roi_max_pool_backward", TORCH_BOX(&fastdet::roi_max_pool_backward));
}
