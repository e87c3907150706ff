// Soft-NMS and matches on the CPU.
#include "soft_nms.h"

namespace fastdet {
namespace {

std::tuple<Tensor, Tensor> soft_nms(const Tensor& boxes, const Tensor& scores, std::optional<Tensor> groups,
                                    int64_t method, double iou_threshold, double sigma, double min_score) {
  const NmsArguments arguments(boxes, scores, groups, std::nullopt, iou_threshold, false);
  const int64_t size = arguments.input.size;
  const SoftNmsResult result(1, size, boxes);
  soft_nms_cpu(arguments.input, soft_nms_rule(method, iou_threshold, sigma, min_score), result.output,
               run_in_torch_pool);
  // Copies of the used part: views would hold all of the memory, and their storage would differ from the fakes'.
  const int64_t count = result.output.counts[0];
  Tensor index = new_tensor({count}, ScalarType::Long, boxes);
  Tensor left = new_tensor({count}, ScalarType::Float, boxes);
  std::copy_n(result.output.kept, count, index.mutable_data_ptr<int64_t>());
  std::copy_n(result.output.scores, count, left.mutable_data_ptr<float>());
  return {index, left};
}

std::tuple<Tensor, Tensor, Tensor> soft_nms_padded(const Tensor& boxes, const Tensor& scores,
                                                   std::optional<Tensor> groups, std::optional<Tensor> valid,
                                                   int64_t method, double iou_threshold, double sigma,
                                                   double min_score, int64_t max_output) {
  const NmsArguments arguments(boxes, scores, groups, valid, iou_threshold, true);
  const SoftNmsResult result(arguments.input.batch, max_output, boxes);
  soft_nms_cpu(arguments.input, soft_nms_rule(method, iou_threshold, sigma, min_score), result.output,
               run_in_torch_pool);
  return {result.index, result.scores, result.count};
}

Tensor nms_match(const Tensor& boxes, double iou_threshold) {
  check_match_arguments(boxes, iou_threshold);
  const Tensor plain = torch::stable::contiguous(boxes);
  Tensor owners = new_tensor({boxes.size(0)}, ScalarType::Long, boxes);
  nms_match_cpu(plain.const_data_ptr<float>(), boxes.size(0), static_cast<float>(iou_threshold),
                owners.mutable_data_ptr<int64_t>());
  return owners;
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CPU, m) {
  m.impl("soft_nms", TORCH_BOX(&fastdet::soft_nms));
  m.impl("soft_nms_padded", TORCH_BOX(&fastdet::soft_nms_padded));
  m.impl("nms_match", TORCH_BOX(&fastdet::nms_match));
}
