// Arguments of the overlap ops, checked once for both devices.
#pragma once

#include "../kernels/box_iou.h"
#include "common.h"

namespace fastdet {

inline DType box_dtype(const Tensor& first, const Tensor& second) {
  const ScalarType dtype = first.scalar_type();
  check(dtype == ScalarType::Float || dtype == ScalarType::Double, "`first` must be float32 or float64, got ",
        torch::headeronly::toString(dtype));
  check_dtype("second", second, dtype);
  check_same_device("second", second, first);
  return dtype == ScalarType::Double ? DType::kFloat64 : DType::kFloat32;
}

inline Overlap overlap_kind(int64_t kind, int64_t last) {
  check(kind >= 0 && kind <= last, "`kind` must lie in [0, ", last, "], got ", kind);
  return static_cast<Overlap>(kind);
}

// The contiguous arguments and the result live here.
class BoxIouArguments {
 public:
  BoxIouArguments(const Tensor& first, const Tensor& second, int64_t kind, double eps)
      : first_(torch::stable::contiguous(first)), second_(torch::stable::contiguous(second)) {
    check_shape("first", first, {-1, -1, 4});
    check_shape("second", second, {-1, -1, 4});
    args.dtype = box_dtype(first, second);
    args.batch = first.size(0);
    args.rows = first.size(1);
    args.columns = second.size(1);
    args.shared_second = second.size(0) == 1;
    check(args.shared_second || second.size(0) == args.batch, "`second` must hold 1 or ", args.batch,
          " images, got ", shape_of(second));
    args.kind = overlap_kind(kind, static_cast<int64_t>(Overlap::kIof));
    args.eps = eps;
    args.first = first_.const_data_ptr();
    args.second = second_.const_data_ptr();
    values = new_tensor({args.batch, args.rows, args.columns}, first.scalar_type(), first);
    args.values = values.mutable_data_ptr();
  }

  BoxIouArgs args{};
  Tensor values;

 private:
  Tensor first_;
  Tensor second_;
};

class PairedBoxIouArguments {
 public:
  PairedBoxIouArguments(const Tensor& first, const Tensor& second, int64_t kind, double eps)
      : first_(torch::stable::contiguous(first)), second_(torch::stable::contiguous(second)) {
    check_shape("first", first, {-1, 4});
    args.count = first.size(0);
    check_shape("second", second, {args.count, 4});
    args.dtype = box_dtype(first, second);
    args.kind = overlap_kind(kind, static_cast<int64_t>(Overlap::kCiou));
    args.eps = eps;
    args.first = first_.const_data_ptr();
    args.second = second_.const_data_ptr();
  }

  Tensor make_values() {
    Tensor values = new_tensor({args.count}, first_.scalar_type(), first_);
    args.values = values.mutable_data_ptr();
    return values;
  }

  // Of the first and the second boxes.
  std::tuple<Tensor, Tensor> make_gradients(const Tensor& grad) {
    check_shape("grad", grad, {args.count});
    check_dtype("grad", grad, first_.scalar_type());
    check_same_device("grad", grad, first_);
    grad_ = torch::stable::contiguous(grad);
    args.grad = grad_->const_data_ptr();
    Tensor of_first = new_tensor({args.count, 4}, first_.scalar_type(), first_);
    Tensor of_second = new_tensor({args.count, 4}, first_.scalar_type(), first_);
    args.first_gradient = of_first.mutable_data_ptr();
    args.second_gradient = of_second.mutable_data_ptr();
    return {of_first, of_second};
  }

  PairedBoxIouArgs args{};

 private:
  Tensor first_;
  Tensor second_;
  std::optional<Tensor> grad_;
};

}  // namespace fastdet
