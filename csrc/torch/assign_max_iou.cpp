// assign_max_iou on the CPU.
#include "assign_max_iou.h"

namespace fastdet {
namespace {

std::tuple<Tensor, Tensor> assign_max_iou(const Tensor& boxes, const Tensor& objects, const Tensor& valid,
                                          std::optional<Tensor> candidates, std::optional<Tensor> blocked,
                                          double positive, double negative_low, double negative_high,
                                          double min_positive, bool match_low_quality, bool all_ties) {
  AssignMaxIouArguments arguments(boxes, objects, valid, candidates, blocked, positive, negative_low, negative_high,
                                  min_positive, match_low_quality, all_ties);
  assign_max_iou_cpu(arguments.args, run_in_torch_pool);
  return {arguments.index, arguments.iou};
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CPU, m) { m.impl("assign_max_iou", TORCH_BOX(&fastdet::assign_max_iou)); }
