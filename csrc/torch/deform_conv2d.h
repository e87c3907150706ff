// Arguments of the deformable convolution ops, checked once for both devices.
#pragma once

#include "../kernels/deform_conv2d.h"
#include "features.h"

namespace fastdet {

// Contiguous arguments (input channels last) and what the kernels need of them.
class DeformConv2dArguments {
 public:
  DeformConv2dArguments(const Tensor& input_, const Tensor& offset_, const std::optional<Tensor>& mask_,
                        const Tensor& weight_, const std::optional<Tensor>& bias_, const std::vector<int64_t>& stride,
                        const std::vector<int64_t>& padding, const std::vector<int64_t>& dilation)
      : input(torch::stable::contiguous(input_, MemoryFormat::ChannelsLast)),
        offset(torch::stable::contiguous(offset_)),
        weight(torch::stable::contiguous(weight_)) {
    const ScalarType dtype = input.scalar_type();
    check_shape("input", input, {-1, -1, -1, -1});
    check_shape("weight", weight, {-1, -1, -1, -1});
    check_dtype("weight", weight, dtype);
    check_same_device("weight", weight, input);
    args.dtype = feature_dtype("input", dtype);
    args.batch = input.size(0);
    args.channels = input.size(1);
    args.height = input.size(2);
    args.width = input.size(3);
    args.out_channels = weight.size(0);
    args.kernel_h = weight.size(2);
    args.kernel_w = weight.size(3);
    read_pair("stride", stride, 1, args.stride_h, args.stride_w);
    read_pair("padding", padding, 0, args.padding_h, args.padding_w);
    read_pair("dilation", dilation, 1, args.dilation_h, args.dilation_w);
    check(args.channels > 0 && args.height > 0 && args.width > 0, "`input` must have channels and cells, got ",
          shape_of(input));
    check(weight.numel() > 0 && args.channels % weight.size(1) == 0, "`weight` ", shape_of(weight),
          " does not divide the ", args.channels, " channels of `input` into groups");
    args.groups = args.channels / weight.size(1);
    check(args.out_channels % args.groups == 0, "the ", args.out_channels, " output channels of `weight` cannot be ",
          "split into ", args.groups, " groups");
    args.out_h = output_side(args.height, args.kernel_h, args.stride_h, args.padding_h, args.dilation_h);
    args.out_w = output_side(args.width, args.kernel_w, args.stride_w, args.padding_w, args.dilation_w);
    check(args.out_h > 0 && args.out_w > 0, "`input` ", shape_of(input), " is smaller than the kernel");
    check_shape("offset", offset, {args.batch, -1, args.out_h, args.out_w});
    args.offset_groups = offset.size(1) / (2 * args.taps());
    check(args.offset_groups > 0 && offset.size(1) == 2 * args.taps() * args.offset_groups &&
              args.channels % args.offset_groups == 0,
          "`offset` must have 2 * ", args.taps(), " channels for each offset group, got ", offset.size(1));
    check_dtype("offset", offset, sum_dtype(dtype));
    check_same_device("offset", offset, input);
    if (mask_) {
      mask = torch::stable::contiguous(*mask_);
      check_shape("mask", *mask, {args.batch, args.offset_groups * args.taps(), args.out_h, args.out_w});
      check_dtype("mask", *mask, sum_dtype(dtype));
      check_same_device("mask", *mask, input);
      args.mask = mask->const_data_ptr();
    }
    if (bias_) {
      bias = torch::stable::contiguous(*bias_);
      check_shape("bias", *bias, {args.out_channels});
      check_dtype("bias", *bias, dtype);
      check_same_device("bias", *bias, input);
      args.bias = bias->const_data_ptr();
    }
    args.input = input.const_data_ptr();
    args.offset = offset.const_data_ptr();
    args.weight = weight.const_data_ptr();
  }

  Tensor new_output(bool channels_last) const {
    return new_tensor({args.batch, args.out_channels, args.out_h, args.out_w}, input.scalar_type(), input,
                      format_of(channels_last));
  }

  DeformConv2dArgs args{};
  Tensor input;
  Tensor offset;
  Tensor weight;
  std::optional<Tensor> mask;
  std::optional<Tensor> bias;

 private:
  static void read_pair(const char* name, const std::vector<int64_t>& values, int64_t least, int64_t& h, int64_t& w) {
    check(values.size() == 2 && values[0] >= least && values[1] >= least, "`", name, "` must hold two numbers of at ",
          "least ", least);
    h = values[0];
    w = values[1];
  }

  static int64_t output_side(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation) {
    const int64_t room = size + 2 * padding - dilation * (kernel - 1) - 1;
    return room < 0 ? 0 : room / stride + 1;
  }
};

}  // namespace fastdet
