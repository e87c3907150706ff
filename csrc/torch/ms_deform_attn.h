// Arguments of the deformable attention ops, checked once for both devices.
#pragma once

#include "../kernels/ms_deform_attn.h"
#include "features.h"

namespace fastdet {

// Contiguous arguments and what the kernels need of them.
class MsDeformAttnArguments {
 public:
  MsDeformAttnArguments(const Tensor& value_, const std::vector<int64_t>& sizes, const Tensor& locations_,
                        const Tensor& weights_)
      : value(torch::stable::contiguous(value_)),
        locations(torch::stable::contiguous(locations_)),
        weights(torch::stable::contiguous(weights_)) {
    const ScalarType sums = sum_dtype(value.scalar_type());
    check_shape("value", value, {-1, -1, -1, -1});
    args.dtype = feature_dtype("value", value.scalar_type());
    args.batch = value.size(0);
    args.cells = value.size(1);
    args.heads = value.size(2);
    args.channels = value.size(3);
    args.num_levels = static_cast<int64_t>(sizes.size()) / 2;
    check(sizes.size() % 2 == 0 && args.num_levels >= 1 && args.num_levels <= kMaxAttentionLevels, "`sizes` must hold ",
          "a height and a width for each of 1 to ", kMaxAttentionLevels, " levels, got ", sizes.size(), " numbers");
    constexpr int64_t kMost = int64_t{1} << 24;  // up to there every cell is exact in float
    int64_t start = 0;
    for (int64_t level = 0; level < args.num_levels; ++level) {
      const int64_t height = sizes[2 * level], width = sizes[2 * level + 1];
      check(height > 0 && width > 0 && height < kMost && width < kMost, "`sizes` must lie in [1, 2^24), got ", height,
            " x ", width);
      args.levels[level] = {height, width, start};
      start += height * width;
    }
    check(start == args.cells && start < int64_t{1} << 31, "`value` must have the ", start, " cells of `sizes`, got ",
          args.cells);
    check_shape("locations", locations, {args.batch, -1, args.heads, args.num_levels, -1, 2});
    check_dtype("locations", locations, sums);
    check_same_device("locations", locations, value);
    args.queries = locations.size(1);
    args.points = locations.size(4);
    check_shape("weights", weights, {args.batch, args.queries, args.heads, args.num_levels, args.points});
    check_dtype("weights", weights, sums);
    check_same_device("weights", weights, value);
    args.value = value.const_data_ptr();
    args.locations = locations.const_data_ptr();
    args.weights = weights.const_data_ptr();
  }

  Tensor new_output() const {
    return new_tensor({args.batch, args.queries, args.heads * args.channels}, value.scalar_type(), value);
  }

  MsDeformAttnArgs args{};
  Tensor value;
  Tensor locations;
  Tensor weights;
};

// The contiguous gradient of the output and the gradients to be, those of the values in the type of sums.
struct MsDeformAttnGradientTensors {
  MsDeformAttnGradientTensors(const Tensor& grad, const MsDeformAttnArguments& arguments)
      : output(torch::stable::contiguous(grad)),
        value(new_tensor({arguments.args.batch, arguments.args.cells, arguments.args.heads, arguments.args.channels},
                         sum_dtype(grad.scalar_type()), grad)),
        locations(torch::stable::empty_like(arguments.locations)),
        weights(torch::stable::empty_like(arguments.weights)) {
    const MsDeformAttnArgs& args = arguments.args;
    check_shape("grad", grad, {args.batch, args.queries, args.heads * args.channels});
    check_dtype("grad", grad, arguments.value.scalar_type());
    check_same_device("grad", grad, arguments.value);
  }

  MsDeformAttnGradients pointers() {
    return {output.const_data_ptr(), value.mutable_data_ptr(), locations.mutable_data_ptr(),
            weights.mutable_data_ptr()};
  }

  Tensor output;
  Tensor value;
  Tensor locations;
  Tensor weights;
};

}  // namespace fastdet
