// sigmoid_focal_loss on the GPU.
#include "cuda_common.h"
#include "sigmoid_focal_loss.h"

namespace fastdet {
namespace {

Tensor sigmoid_focal_loss(const Tensor& logits, const Tensor& labels, std::optional<Tensor> weight, double positive,
                          double negative, double gamma, bool reduce) {
  const DeviceGuard guard(logits.get_device_index());
  const SigmoidFocalLossArguments arguments(logits, labels, weight, positive, negative, gamma);
  const SigmoidFocalLossArgs& args = arguments.args;
  if (!reduce) {
    Tensor loss = new_tensor({args.rows, args.classes}, arguments.sums, logits);
    check_cuda("sigmoid_focal_loss", sigmoid_focal_loss_cuda(args, loss.mutable_data_ptr(), current_stream(logits)));
    return loss;
  }
  Tensor loss = new_tensor({}, arguments.sums, logits);
  Tensor partial_sums = new_tensor({kFocalPartialSums}, ScalarType::Double, logits);
  check_cuda("sigmoid_focal_loss",
             sigmoid_focal_loss_sum_cuda(args, partial_sums.mutable_data_ptr<double>(), loss.mutable_data_ptr(),
                                         current_stream(logits)));
  return loss;
}

Tensor sigmoid_focal_loss_backward(const Tensor& grad, const Tensor& logits, const Tensor& labels,
                                   std::optional<Tensor> weight, double positive, double negative, double gamma) {
  const DeviceGuard guard(logits.get_device_index());
  const SigmoidFocalLossArguments arguments(logits, labels, weight, positive, negative, gamma);
  const Tensor grads = arguments.checked_grad(grad);
  Tensor slope = new_tensor({arguments.args.rows, arguments.args.classes}, logits.scalar_type(), logits);
  check_cuda("sigmoid_focal_loss_backward",
             sigmoid_focal_loss_backward_cuda(arguments.args, grads.const_data_ptr(), grad.dim() == 0,
                                              slope.mutable_data_ptr(), current_stream(logits)));
  return slope;
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CUDA, m) {
  m.impl("sigmoid_focal_loss", TORCH_BOX(&fastdet::sigmoid_focal_loss));
  m.impl("sigmoid_focal_loss_backward", TORCH_BOX(&fastdet::sigmoid_focal_loss_backward));
}
