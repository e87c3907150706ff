// Deformable convolution ops on the CPU.
#include "deform_conv2d.h"

namespace fastdet {
namespace {

Tensor deform_conv2d(const Tensor& input, const Tensor& offset, std::optional<Tensor> mask, const Tensor& weight,
                     std::optional<Tensor> bias, std::vector<int64_t> stride, std::vector<int64_t> padding,
                     std::vector<int64_t> dilation, bool channels_last) {
  const DeformConv2dArguments arguments(input, offset, mask, weight, bias, stride, padding, dilation);
  Tensor output = arguments.new_output(channels_last);
  if (output.numel() > 0) {
    deform_conv2d_forward_cpu(arguments.args, output.mutable_data_ptr(), channels_last, run_in_torch_pool);
  }
  return output;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> deform_conv2d_backward(
    const Tensor& grad, const Tensor& input, const Tensor& offset, std::optional<Tensor> mask, const Tensor& weight,
    std::vector<int64_t> stride, std::vector<int64_t> padding, std::vector<int64_t> dilation, bool channels_last,
    bool /* deterministic: it always is */) {
  const DeformConv2dArguments arguments(input, offset, mask, weight, std::nullopt, stride, padding, dilation);
  const DeformConv2dArgs& args = arguments.args;
  const ScalarType dtype = input.scalar_type();
  const ScalarType sums = sum_dtype(dtype);
  check_shape("grad", grad, {args.batch, args.out_channels, args.out_h, args.out_w});
  check_dtype("grad", grad, dtype);
  const Tensor output = torch::stable::contiguous(grad, MemoryFormat::ChannelsLast);
  Tensor input_gradient = new_tensor({args.batch, args.channels, args.height, args.width}, sums, input,
                                     MemoryFormat::ChannelsLast);
  torch::stable::zero_(input_gradient);
  const auto new_like = [&](const Tensor& tensor) {
    Tensor gradient = torch::stable::new_empty(tensor, tensor.sizes(), sums);
    return args.batch > 0 ? gradient : torch::stable::zero_(gradient);
  };
  Tensor offset_gradient = new_like(arguments.offset);
  Tensor weight_gradient = new_like(arguments.weight);
  Tensor mask_gradient = mask ? new_like(*arguments.mask) : new_tensor({0}, sums, input);
  const DeformConv2dGradients gradients{output.const_data_ptr(), input_gradient.mutable_data_ptr(),
                                        offset_gradient.mutable_data_ptr(),
                                        mask ? mask_gradient.mutable_data_ptr() : nullptr,
                                        weight_gradient.mutable_data_ptr()};
  if (args.batch > 0) deform_conv2d_backward_cpu(args, gradients, run_in_torch_pool);
  if (!channels_last) input_gradient = torch::stable::contiguous(input_gradient);
  return {torch::stable::to(input_gradient, dtype), offset_gradient, mask_gradient,
          torch::stable::to(weight_gradient, dtype)};
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CPU, m) {
  m.impl("deform_conv2d", TORCH_BOX(&fastdet::deform_conv2d));
  m.impl("deform_conv2d_backward", TORCH_BOX(&fastdet::deform_conv2d_backward));
}
