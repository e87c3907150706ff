// Maximum pooling of RoIs on the GPU.
#include "roi_max_pool.h"

#include "cuda_common.h"

namespace fastdet {
namespace {

std::tuple<Tensor, Tensor> roi_max_pool(std::vector<Tensor> features, const Tensor& rois, std::optional<Tensor> levels,
                                        std::vector<double> spatial_scales, int64_t output_h, int64_t output_w,
                                        int64_t mode, int64_t sampling_ratio, bool aligned, double finest_scale,
                                        bool channels_last) {
  const DeviceGuard guard(rois.get_device_index());
  RoiMaxPoolResults results(features, rois, levels, spatial_scales, output_h, output_w, mode, sampling_ratio, aligned,
                            finest_scale, channels_last);
  check_cuda("roi_max_pool", roi_max_pool_forward_cuda(results.args, current_stream(rois)));
  return {results.pooled, results.chosen};
}

std::vector<Tensor> roi_max_pool_backward(const Tensor& grad, const Tensor& chosen, const Tensor& rois,
                                          std::optional<Tensor> levels, std::vector<double> spatial_scales,
                                          int64_t batch, std::vector<int64_t> sizes, int64_t mode,
                                          int64_t sampling_ratio, bool aligned, double finest_scale,
                                          bool channels_last) {
  check_shape("grad", grad, {rois.size(0), -1, -1, -1});
  const DeviceGuard guard(rois.get_device_index());
  RoiMaxPoolGradientTensors gradients(grad, chosen, rois, levels, spatial_scales, batch, sizes, mode, sampling_ratio,
                                      aligned, finest_scale, channels_last);
  check_cuda("roi_max_pool_backward", roi_max_pool_backward_cuda(gradients.args, current_stream(rois)));
  return gradients.narrowed();
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CUDA, m) {
  m.impl("roi_max_pool", TORCH_BOX(&fastdet::roi_max_pool));
  m.impl("roi_max_pool_backward", TORCH_BOX(&fastdet::roi_max_pool_backward));
}
