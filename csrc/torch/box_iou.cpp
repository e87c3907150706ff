// Overlap ops on the CPU.
#include "box_iou.h"

namespace fastdet {
namespace {

Tensor box_iou(const Tensor& first, const Tensor& second, int64_t kind, double eps) {
  BoxIouArguments arguments(first, second, kind, eps);
  if (arguments.values.numel() > 0) box_iou_cpu(arguments.args, run_in_torch_pool);
  return arguments.values;
}

Tensor paired_box_iou(const Tensor& first, const Tensor& second, int64_t kind, double eps) {
  PairedBoxIouArguments arguments(first, second, kind, eps);
  Tensor values = arguments.make_values();
  paired_box_iou_cpu(arguments.args, run_in_torch_pool);
  return values;
}

std::tuple<Tensor, Tensor> paired_box_iou_backward(const Tensor& grad, const Tensor& first, const Tensor& second,
                                                   int64_t kind, double eps) {
  PairedBoxIouArguments arguments(first, second, kind, eps);
  const std::tuple<Tensor, Tensor> gradients = arguments.make_gradients(grad);
  paired_box_iou_backward_cpu(arguments.args, run_in_torch_pool);
  return gradients;
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CPU, m) {
  m.impl("box_iou", TORCH_BOX(&fastdet::box_iou));
  m.impl("paired_box_iou", TORCH_BOX(&fastdet::paired_box_iou));
  m.impl("paired_box_iou_backward", TORCH_BOX(&fastdet::paired_box_iou_backward));
}
