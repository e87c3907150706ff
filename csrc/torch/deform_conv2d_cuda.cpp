// Deformable convolution ops on the GPU: columns of some rows, small enough for the second-level cache, then a matrix
// product by torch, until all rows are done.
#include "cuda_common.h"
#include "deform_conv2d.h"

namespace fastdet {
namespace {

using torch::stable::matmul;
using torch::stable::reshape;
using torch::stable::transpose;

constexpr int64_t kColumnBytes = int64_t{24} << 20;

class RowBlocks {
 public:
  RowBlocks(const DeformConv2dArguments& arguments) : args_(arguments.args), like_(arguments.input) {
    const int64_t element = like_.element_size();
    const int64_t row = args_.taps() * args_.channels * element;
    most_ = std::max<int64_t>(1, kColumnBytes / row);
  }

  int64_t total() const { return args_.batch * args_.positions(); }

  DeformRows from(int64_t begin) const { return {begin, std::min(most_, total() - begin)}; }

  // [groups, rows, taps * channels of a group]
  Tensor columns(DeformRows rows) const {
    Tensor columns = new_tensor({args_.groups, rows.count, args_.taps() * (args_.channels / args_.groups)},
                                like_.scalar_type(), like_);
    check_cuda("deform_conv2d",
               deform_conv2d_columns_cuda(args_, rows, columns.mutable_data_ptr(), current_stream(like_)));
    return columns;
  }

  // [groups, taps * channels of a group, output channels of a group]
  Tensor weight_matrix(const Tensor& weight) const {
    const int64_t in = args_.channels / args_.groups, out = args_.out_channels / args_.groups;
    return reshape(transpose(reshape(weight, {args_.groups, out, in, args_.taps()}), 1, 3),
                   {args_.groups, args_.taps() * in, out});
  }

  // A channels-last [batch, channels, h, w] tensor of outputs as [rows, groups, channels of a group], without a copy.
  Tensor output_rows(const Tensor& output) const {
    Tensor last = transpose(transpose(output, 1, 2), 2, 3);
    return torch::stable::view(last, {total(), args_.groups, args_.out_channels / args_.groups});
  }

 private:
  const DeformConv2dArgs& args_;
  const Tensor& like_;
  int64_t most_;
};

Tensor deform_conv2d(const Tensor& input, const Tensor& offset, std::optional<Tensor> mask, const Tensor& weight,
                     std::optional<Tensor> bias, std::vector<int64_t> stride, std::vector<int64_t> padding,
                     std::vector<int64_t> dilation, bool channels_last) {
  const DeviceGuard guard(input.get_device_index());
  const DeformConv2dArguments arguments(input, offset, mask, weight, bias, stride, padding, dilation);
  Tensor output = arguments.new_output(true);
  if (output.numel() > 0) {
    const RowBlocks blocks(arguments);
    const Tensor matrix = blocks.weight_matrix(arguments.weight);
    const Tensor all_rows = blocks.output_rows(output);
    for (int64_t begin = 0; begin < blocks.total();) {
      const DeformRows rows = blocks.from(begin);
      Tensor part = torch::stable::narrow(const_cast<Tensor&>(all_rows), 0, rows.begin, rows.count);
      torch::stable::copy_(part, transpose(matmul(blocks.columns(rows), matrix), 0, 1));
      begin += rows.count;
    }
    if (bias) output = torch::stable::subtract(output, reshape(*arguments.bias, {-1, 1, 1}), -1.0);
  }
  return channels_last ? output : torch::stable::contiguous(output);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> deform_conv2d_backward(
    const Tensor& grad, const Tensor& input, const Tensor& offset, std::optional<Tensor> mask, const Tensor& weight,
    std::vector<int64_t> stride, std::vector<int64_t> padding, std::vector<int64_t> dilation, bool channels_last,
    bool deterministic) {
  const DeviceGuard guard(input.get_device_index());
  const DeformConv2dArguments arguments(input, offset, mask, weight, std::nullopt, stride, padding, dilation);
  const DeformConv2dArgs& args = arguments.args;
  const ScalarType dtype = input.scalar_type();
  const ScalarType sums = sum_dtype(dtype);
  check_shape("grad", grad, {args.batch, args.out_channels, args.out_h, args.out_w});
  check_dtype("grad", grad, dtype);
  check_same_device("grad", grad, input);
  const int64_t in = args.channels / args.groups, out = args.out_channels / args.groups;
  Tensor input_gradient =
      new_tensor({args.batch, args.channels, args.height, args.width}, sums, input, MemoryFormat::ChannelsLast);
  torch::stable::zero_(input_gradient);
  Tensor offset_gradient = torch::stable::empty_like(arguments.offset);
  Tensor mask_gradient = mask ? torch::stable::empty_like(*arguments.mask) : new_tensor({0}, sums, input);
  Tensor weight_sum = new_tensor({args.groups, out, args.taps() * in}, sums, input);
  torch::stable::zero_(weight_sum);
  if (args.batch > 0) {
    const RowBlocks blocks(arguments);
    Tensor matrix = blocks.weight_matrix(arguments.weight);
    const Tensor back = transpose(matrix, 1, 2);
    Tensor all_rows = blocks.output_rows(torch::stable::contiguous(grad, MemoryFormat::ChannelsLast));
    const DeformConv2dGradients gradients{nullptr, input_gradient.mutable_data_ptr(),
                                          offset_gradient.mutable_data_ptr(),
                                          mask ? mask_gradient.mutable_data_ptr() : nullptr, nullptr};
    Tensor sums_of_integers = new_tensor({deterministic ? input.numel() : 0}, ScalarType::Long, input);
    Tensor bounds = new_tensor({2}, ScalarType::Long, input);
    torch::stable::zero_(sums_of_integers);
    const DeformFixedPoint fixed{deterministic ? sums_of_integers.mutable_data_ptr<int64_t>() : nullptr,
                                 reinterpret_cast<uint64_t*>(bounds.mutable_data_ptr<int64_t>())};
    for (int64_t begin = 0; begin < blocks.total();) {
      const DeformRows rows = blocks.from(begin);
      Tensor part = transpose(torch::stable::narrow(all_rows, 0, rows.begin, rows.count), 0, 1);
      const Tensor slopes = torch::stable::contiguous(matmul(part, back));
      check_cuda("deform_conv2d_backward", deform_conv2d_scatter_cuda(args, rows, slopes.const_data_ptr(), gradients,
                                                                      fixed, current_stream(input)));
      const Tensor partial = matmul(transpose(part, 1, 2), blocks.columns(rows));
      weight_sum = torch::stable::subtract(weight_sum, torch::stable::to(partial, sums), -1.0);
      begin += rows.count;
    }
  }
  Tensor by_tap = reshape(weight_sum, {args.groups * out, args.taps(), in});
  Tensor weight_gradient =
      reshape(transpose(by_tap, 1, 2), {args.out_channels, in, args.kernel_h, args.kernel_w});
  if (!channels_last) input_gradient = torch::stable::contiguous(input_gradient);
  return {torch::stable::to(input_gradient, dtype), offset_gradient, mask_gradient,
          torch::stable::to(weight_gradient, dtype)};
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CUDA, m) {
  m.impl("deform_conv2d", TORCH_BOX(&fastdet::deform_conv2d));
  m.impl("deform_conv2d_backward", TORCH_BOX(&fastdet::deform_conv2d_backward));
}
