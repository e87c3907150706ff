// RoIAlign ops on the GPU.
#include "cuda_common.h"
#include "roi_align.h"

namespace fastdet {
namespace {

Tensor roi_align(std::vector<Tensor> features, const Tensor& rois, std::optional<Tensor> levels,
                 std::vector<double> spatial_scales, int64_t output_h, int64_t output_w, int64_t sampling_ratio,
                 bool aligned, double finest_scale, bool channels_last) {
  check(!features.empty(), "`features` must hold at least one level");
  const DeviceGuard guard(rois.get_device_index());
  const ScalarType dtype = features[0].scalar_type();
  RoiAlignArguments arguments(rois, levels, features.size(), dtype, spatial_scales, output_h, output_w, sampling_ratio,
                              aligned, finest_scale, channels_last);
  set_features(arguments, features, rois);
  RoiAlignArgs& args = arguments.args;
  Tensor pooled = new_tensor({args.num_rois, args.channels, output_h, output_w}, dtype, rois, format_of(channels_last));
  args.pooled = pooled.mutable_data_ptr();
  check_cuda("roi_align", roi_align_forward_cuda(args, current_stream(rois)));
  return pooled;
}

std::vector<Tensor> roi_align_backward(const Tensor& grad, const Tensor& rois, std::optional<Tensor> levels,
                                       std::vector<double> spatial_scales, int64_t batch, std::vector<int64_t> sizes,
                                       int64_t sampling_ratio, bool aligned, double finest_scale, bool channels_last) {
  check_shape("grad", grad, {rois.size(0), -1, -1, -1});
  check_same_device("grad", grad, rois);
  check(sizes.size() == 2 * spatial_scales.size(), "`sizes` must hold (H, W) of each level");
  const DeviceGuard guard(rois.get_device_index());
  const ScalarType dtype = grad.scalar_type();
  const Tensor pooled = torch::stable::contiguous(grad, format_of(channels_last));
  RoiAlignArguments arguments(rois, levels, spatial_scales.size(), dtype, spatial_scales, grad.size(2), grad.size(3),
                              sampling_ratio, aligned, finest_scale, channels_last);
  RoiAlignArgs& args = arguments.args;
  constexpr int64_t kMostOutputSide = 256;
  check(args.out_h <= kMostOutputSide && args.out_w <= kMostOutputSide, "`output_size` may be at most ",
        kMostOutputSide, " for a gradient on the GPU, got (", args.out_h, ", ", args.out_w, ")");
  args.batch = batch;
  args.channels = grad.size(1);
  args.pooled = const_cast<void*>(pooled.const_data_ptr());
  std::vector<Tensor> result;
  for (size_t l = 0; l < spatial_scales.size(); ++l) {
    Tensor gradient =
        new_tensor({batch, args.channels, sizes[2 * l], sizes[2 * l + 1]}, dtype, rois, format_of(channels_last));
    arguments.set_level(l, gradient, gradient.mutable_data_ptr());
    result.push_back(gradient);
  }
  check_cuda("roi_align_backward", roi_align_backward_cuda(args, current_stream(rois)));
  return result;
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CUDA, m) {
  m.impl("roi_align", TORCH_BOX(&fastdet::roi_align));
  m.impl("roi_align_backward", TORCH_BOX(&fastdet::roi_align_backward));
}
