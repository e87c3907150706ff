// NMS ops on the CPU.
#include "nms.h"

namespace fastdet {
namespace {

Tensor nms_of(const NmsArguments& arguments, const Tensor& boxes) {
  const NmsInput& input = arguments.input;
  Tensor kept = new_tensor({input.size}, ScalarType::Long, boxes);
  int64_t count = 0;
  nms_cpu(input, input.size, kept.mutable_data_ptr<int64_t>(), &count, run_in_torch_pool);
  // A copy of the kept part: a view would hold all of the memory, and its storage would differ from the fake's.
  Tensor result = new_tensor({count}, ScalarType::Long, boxes);
  const int64_t* from = kept.const_data_ptr<int64_t>();
  std::copy(from, from + count, result.mutable_data_ptr<int64_t>());
  return result;
}

Tensor nms(const Tensor& boxes, const Tensor& scores, double iou_threshold) {
  return nms_of(NmsArguments(boxes, scores, std::nullopt, std::nullopt, iou_threshold, false), boxes);
}

Tensor batched_nms(const Tensor& boxes, const Tensor& scores, const Tensor& groups, double iou_threshold) {
  return nms_of(NmsArguments(boxes, scores, groups, std::nullopt, iou_threshold, false), boxes);
}

std::tuple<Tensor, Tensor> nms_padded(const Tensor& boxes, const Tensor& scores, std::optional<Tensor> groups,
                                      std::optional<Tensor> valid, double iou_threshold, int64_t max_output) {
  check(max_output >= 0, "`max_output` must not be negative, got ", max_output);
  const NmsArguments arguments(boxes, scores, groups, valid, iou_threshold, true);
  Tensor index = new_tensor({arguments.input.batch, max_output}, ScalarType::Long, boxes);
  Tensor count = new_tensor({arguments.input.batch}, ScalarType::Long, boxes);
  nms_cpu(arguments.input, max_output, index.mutable_data_ptr<int64_t>(), count.mutable_data_ptr<int64_t>(),
          run_in_torch_pool);
  return {index, count};
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CPU, m) {
  m.impl("nms", TORCH_BOX(&fastdet::nms));
  m.impl("batched_nms", TORCH_BOX(&fastdet::batched_nms));
  m.impl("nms_padded", TORCH_BOX(&fastdet::nms_padded));
}
