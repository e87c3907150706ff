// assign_max_iou on the GPU.
#include "assign_max_iou.h"
#include "cuda_common.h"

namespace fastdet {
namespace {

std::tuple<Tensor, Tensor> assign_max_iou(const Tensor& boxes, const Tensor& objects, const Tensor& valid,
                                          std::optional<Tensor> candidates, std::optional<Tensor> blocked,
                                          double positive, double negative_low, double negative_high,
                                          double min_positive, bool match_low_quality, bool all_ties) {
  const DeviceGuard guard(boxes.get_device_index());
  AssignMaxIouArguments arguments(boxes, objects, valid, candidates, blocked, positive, negative_low, negative_high,
                                  min_positive, match_low_quality, all_ties);
  Tensor best = new_tensor({arguments.args.batch * arguments.args.num_objects}, ScalarType::Long, boxes);
  check_cuda("assign_max_iou",
             assign_max_iou_cuda(arguments.args, reinterpret_cast<uint64_t*>(best.mutable_data_ptr<int64_t>()),
                                 current_stream(boxes)));
  return {arguments.index, arguments.iou};
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CUDA, m) { m.impl("assign_max_iou", TORCH_BOX(&fastdet::assign_max_iou)); }
