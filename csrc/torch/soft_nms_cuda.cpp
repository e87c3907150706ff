// Soft-NMS and matches on the GPU.
#include "soft_nms.h"

#include "cuda_common.h"

namespace fastdet {
namespace {

void run(const NmsInput& input, const SoftNmsRule& rule, const SoftNmsOutput& output, const Tensor& boxes) {
  check(input.size < (int64_t{1} << 31) && input.batch < (int64_t{1} << 31),
        "`boxes` must hold less than 2^31 images of less than 2^31 boxes, got ", shape_of(boxes));
  Tensor workspace = new_tensor({input.batch, input.size}, ScalarType::Float, boxes);
  check_cuda("soft_nms",
             soft_nms_cuda(input, rule, output, workspace.mutable_data_ptr<float>(), current_stream(boxes)));
}

// The result's size depends on the data: the host waits for the count.
std::tuple<Tensor, Tensor> soft_nms(const Tensor& boxes, const Tensor& scores, std::optional<Tensor> groups,
                                    int64_t method, double iou_threshold, double sigma, double min_score) {
  const DeviceGuard guard(boxes.get_device_index());
  const NmsArguments arguments(aligned(boxes), scores, groups, std::nullopt, iou_threshold, false);
  const SoftNmsResult result(1, arguments.input.size, boxes);
  run(arguments.input, soft_nms_rule(method, iou_threshold, sigma, min_score), result.output, boxes);
  const cudaStream_t stream = static_cast<cudaStream_t>(current_stream(boxes));
  int64_t count = 0;
  check_cuda("soft_nms", cudaMemcpyAsync(&count, result.output.counts, sizeof(count), cudaMemcpyDeviceToHost, stream));
  check_cuda("soft_nms", cudaStreamSynchronize(stream));
  Tensor index = new_tensor({count}, ScalarType::Long, boxes);
  Tensor left = new_tensor({count}, ScalarType::Float, boxes);
  if (count > 0) {
    check_cuda("soft_nms", cudaMemcpyAsync(index.mutable_data_ptr(), result.output.kept, count * sizeof(int64_t),
                                           cudaMemcpyDeviceToDevice, stream));
    check_cuda("soft_nms", cudaMemcpyAsync(left.mutable_data_ptr(), result.output.scores, count * sizeof(float),
                                           cudaMemcpyDeviceToDevice, stream));
  }
  return {index, left};
}

std::tuple<Tensor, Tensor, Tensor> soft_nms_padded(const Tensor& boxes, const Tensor& scores,
                                                   std::optional<Tensor> groups, std::optional<Tensor> valid,
                                                   int64_t method, double iou_threshold, double sigma,
                                                   double min_score, int64_t max_output) {
  const DeviceGuard guard(boxes.get_device_index());
  const NmsArguments arguments(aligned(boxes), scores, groups, valid, iou_threshold, true);
  const SoftNmsResult result(arguments.input.batch, max_output, boxes);
  run(arguments.input, soft_nms_rule(method, iou_threshold, sigma, min_score), result.output, boxes);
  return {result.index, result.scores, result.count};
}

Tensor nms_match(const Tensor& boxes, double iou_threshold) {
  check_match_arguments(boxes, iou_threshold);
  const DeviceGuard guard(boxes.get_device_index());
  const Tensor plain = torch::stable::contiguous(boxes);
  Tensor owners = new_tensor({boxes.size(0)}, ScalarType::Long, boxes);
  check_cuda("nms_match", nms_match_cuda(plain.const_data_ptr<float>(), boxes.size(0), static_cast<float>(iou_threshold),
                                         owners.mutable_data_ptr<int64_t>(), current_stream(boxes)));
  return owners;
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CUDA, m) {
  m.impl("soft_nms", TORCH_BOX(&fastdet::soft_nms));
  m.impl("soft_nms_padded", TORCH_BOX(&fastdet::soft_nms_padded));
  m.impl("nms_match", TORCH_BOX(&fastdet::nms_match));
}
