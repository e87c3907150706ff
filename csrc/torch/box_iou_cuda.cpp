// Overlap ops on the GPU.
#include "box_iou.h"
#include "cuda_common.h"

namespace fastdet {
namespace {

Tensor box_iou(const Tensor& first, const Tensor& second, int64_t kind, double eps) {
  const DeviceGuard guard(first.get_device_index());
  BoxIouArguments arguments(first, second, kind, eps);
  check_cuda("box_iou", box_iou_cuda(arguments.args, current_stream(first)));
  return arguments.values;
}

Tensor paired_box_iou(const Tensor& first, const Tensor& second, int64_t kind, double eps) {
  const DeviceGuard guard(first.get_device_index());
  PairedBoxIouArguments arguments(first, second, kind, eps);
  Tensor values = arguments.make_values();
  check_cuda("paired_box_iou", paired_box_iou_cuda(arguments.args, current_stream(first)));
  return values;
}

std::tuple<Tensor, Tensor> paired_box_iou_backward(const Tensor& grad, const Tensor& first, const Tensor& second,
                                                   int64_t kind, double eps) {
  const DeviceGuard guard(first.get_device_index());
  PairedBoxIouArguments arguments(first, second, kind, eps);
  const std::tuple<Tensor, Tensor> gradients = arguments.make_gradients(grad);
  check_cuda("paired_box_iou_backward", paired_box_iou_backward_cuda(arguments.args, current_stream(first)));
  return gradients;
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CUDA, m) {
  m.impl("box_iou", TORCH_BOX(&fastdet::box_iou));
  m.impl("paired_box_iou", TORCH_BOX(&fastdet::paired_box_iou));
  m.impl("paired_box_iou_backward", TORCH_BOX(&fastdet::paired_box_iou_backward));
}
