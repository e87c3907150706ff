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
  RoiMaxPoolResults results(features, rois, levels, spatial_scales, output_h, output_w, mode, sampling_ratio, aligned,
                            finest_scale, channels_last);
  check_rois(results.arguments.args);
  if (results.pooled.numel() > 0) roi_max_pool_forward_cpu(results.args, run_in_torch_pool);
  return {results.pooled, results.chosen};
}

std::vector<Tensor> roi_max_pool_backward(const Tensor& grad, const Tensor& chosen, const Tensor& rois,
                                          std::optional<Tensor> levels, std::vector<double> spatial_scales,
                                          int64_t batch, std::vector<int64_t> sizes, int64_t mode,
                                          int64_t sampling_ratio, bool aligned, double finest_scale,
                                          bool channels_last) {
  check_shape("grad", grad, {rois.size(0), -1, -1, -1});
  RoiMaxPoolGradientTensors gradients(grad, chosen, rois, levels, spatial_scales, batch, sizes, mode, sampling_ratio,
                                      aligned, finest_scale, channels_last);
  check_rois(gradients.arguments.args);
  if (grad.numel() > 0) roi_max_pool_backward_cpu(gradients.args, run_in_torch_pool);
  return gradients.narrowed();
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CPU, m) {
  m.impl("roi_max_pool", TORCH_BOX(&fastdet::roi_max_pool));
  m.impl("roi_max_pool_backward", TORCH_BOX(&fastdet::roi_max_pool_backward));
}
