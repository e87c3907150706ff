// sigmoid_focal_loss on the CPU.
#include "sigmoid_focal_loss.h"

namespace fastdet {
namespace {

Tensor sigmoid_focal_loss(const Tensor& logits, const Tensor& labels, std::optional<Tensor> weight, double positive,
                          double negative, double gamma, bool reduce) {
  const SigmoidFocalLossArguments arguments(logits, labels, weight, positive, negative, gamma);
  const SigmoidFocalLossArgs& args = arguments.args;
  if (!reduce) {
    Tensor loss = new_tensor({args.rows, args.classes}, arguments.sums, logits);
    if (loss.numel() > 0) sigmoid_focal_loss_cpu(args, loss.mutable_data_ptr(), run_in_torch_pool);
    return loss;
  }
  Tensor loss = new_tensor({}, arguments.sums, logits);
  const double sum = args.rows * args.classes > 0 ? sigmoid_focal_loss_sum_cpu(args, run_in_torch_pool) : 0.0;
  if (arguments.sums == ScalarType::Double) *loss.mutable_data_ptr<double>() = sum;
  else *loss.mutable_data_ptr<float>() = static_cast<float>(sum);
  return loss;
}

Tensor sigmoid_focal_loss_backward(const Tensor& grad, const Tensor& logits, const Tensor& labels,
                                   std::optional<Tensor> weight, double positive, double negative, double gamma) {
  const SigmoidFocalLossArguments arguments(logits, labels, weight, positive, negative, gamma);
  const Tensor grads = arguments.checked_grad(grad);
  Tensor slope = new_tensor({arguments.args.rows, arguments.args.classes}, logits.scalar_type(), logits);
  if (slope.numel() > 0) {
    sigmoid_focal_loss_backward_cpu(arguments.args, grads.const_data_ptr(), grad.dim() == 0, slope.mutable_data_ptr(),
                                    run_in_torch_pool);
  }
  return slope;
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CPU, m) {
  m.impl("sigmoid_focal_loss", TORCH_BOX(&fastdet::sigmoid_focal_loss));
  m.impl("sigmoid_focal_loss_backward", TORCH_BOX(&fastdet::sigmoid_focal_loss_backward));
}
