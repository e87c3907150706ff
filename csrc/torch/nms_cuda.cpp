// NMS ops on the GPU.
#include "cuda_common.h"
#include "nms.h"

namespace fastdet {
namespace {

std::tuple<Tensor, Tensor> run(const NmsInput& input, int64_t max_output, const Tensor& boxes) {
  check(input.size < (int64_t{1} << 31) && input.batch < (int64_t{1} << 31),
        "`boxes` must hold less than 2^31 images of less than 2^31 boxes, got ", shape_of(boxes));
  Tensor index = new_tensor({input.batch, max_output}, ScalarType::Long, boxes);
  Tensor count = new_tensor({input.batch}, ScalarType::Long, boxes);
  int error = cudaSuccess;
  const size_t bytes = nms_cuda_workspace(input.batch, input.size, max_output, &error);
  check_cuda("nms workspace", error);
  Tensor workspace = new_tensor({static_cast<int64_t>(bytes)}, ScalarType::Byte, boxes);
  check_cuda("nms", nms_cuda(input, max_output, index.mutable_data_ptr<int64_t>(), count.mutable_data_ptr<int64_t>(),
                             workspace.mutable_data_ptr(), bytes, current_stream(boxes)));
  return {index, count};
}

// The result's size depends on the data: the host waits for the count.
Tensor nms_of(const NmsInput& input, const Tensor& boxes) {
  const auto [index, count] = run(input, input.size, boxes);
  const cudaStream_t stream = static_cast<cudaStream_t>(current_stream(boxes));
  int64_t kept = 0;
  check_cuda("nms", cudaMemcpyAsync(&kept, count.const_data_ptr(), sizeof(kept), cudaMemcpyDeviceToHost, stream));
  check_cuda("nms", cudaStreamSynchronize(stream));
  Tensor result = new_tensor({kept}, ScalarType::Long, boxes);
  if (kept > 0) {
    check_cuda("nms", cudaMemcpyAsync(result.mutable_data_ptr(), index.const_data_ptr(), kept * sizeof(int64_t),
                                      cudaMemcpyDeviceToDevice, stream));
  }
  return result;
}

Tensor nms(const Tensor& boxes, const Tensor& scores, double iou_threshold) {
  const DeviceGuard guard(boxes.get_device_index());
  const NmsArguments arguments(aligned(boxes), scores, std::nullopt, std::nullopt, iou_threshold, false);
  return nms_of(arguments.input, boxes);
}

Tensor batched_nms(const Tensor& boxes, const Tensor& scores, const Tensor& groups, double iou_threshold) {
  const DeviceGuard guard(boxes.get_device_index());
  const NmsArguments arguments(aligned(boxes), scores, groups, std::nullopt, iou_threshold, false);
  return nms_of(arguments.input, boxes);
}

std::tuple<Tensor, Tensor> nms_padded(const Tensor& boxes, const Tensor& scores, std::optional<Tensor> groups,
                                      std::optional<Tensor> valid, double iou_threshold, int64_t max_output) {
  check(max_output >= 0, "`max_output` must not be negative, got ", max_output);
  const DeviceGuard guard(boxes.get_device_index());
  const NmsArguments arguments(aligned(boxes), scores, groups, valid, iou_threshold, true);
  return run(arguments.input, max_output, boxes);
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CUDA, m) {
  m.impl("nms", TORCH_BOX(&fastdet::nms));
  m.impl("batched_nms", TORCH_BOX(&fastdet::batched_nms));
  m.impl("nms_padded", TORCH_BOX(&fastdet::nms_padded));
}
