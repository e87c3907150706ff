// Arguments of sigmoid_focal_loss, checked once for both devices.
#pragma once

#include "../kernels/sigmoid_focal_loss.h"
#include "features.h"

namespace fastdet {

// The contiguous arguments live here.
class SigmoidFocalLossArguments {
 public:
  SigmoidFocalLossArguments(const Tensor& logits, const Tensor& labels, const std::optional<Tensor>& weight,
                            double positive, double negative, double gamma)
      : sums(sum_dtype(logits.scalar_type())),
        logits_(torch::stable::contiguous(logits)),
        labels_(torch::stable::contiguous(labels)) {
    check_shape("logits", logits, {-1, -1});
    args.dtype = feature_dtype("logits", logits.scalar_type());
    args.rows = logits.size(0);
    args.classes = logits.size(1);
    check_shape("labels", labels, {args.rows});
    check_dtype("labels", labels, ScalarType::Long);
    check_same_device("labels", labels, logits);
    check(gamma >= 0.0, "`gamma` must not be negative, got ", gamma);
    if (weight) {
      args.weight_per_class = weight->dim() == 2;
      if (args.weight_per_class) check_shape("weight", *weight, {args.rows, args.classes});
      else check_shape("weight", *weight, {args.rows});
      check_dtype("weight", *weight, sums);
      check_same_device("weight", *weight, logits);
      weight_ = torch::stable::contiguous(*weight);
      args.weight = weight_->const_data_ptr();
    }
    args.logits = logits_.const_data_ptr();
    args.labels = labels_.const_data_ptr<int64_t>();
    args.positive = positive;
    args.negative = negative;
    args.gamma = gamma;
  }

  // The gradient of the loss: one number, or one for each element.
  Tensor checked_grad(const Tensor& grad) const {
    check_dtype("grad", grad, sums);
    if (grad.dim() != 0) check_shape("grad", grad, {args.rows, args.classes});
    check_same_device("grad", grad, logits_);
    return torch::stable::contiguous(grad);
  }

  SigmoidFocalLossArgs args{};
  ScalarType sums;  // what losses are given in

 private:
  Tensor logits_;
  Tensor labels_;
  std::optional<Tensor> weight_;
};

}  // namespace fastdet
