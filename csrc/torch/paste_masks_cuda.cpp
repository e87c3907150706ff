// paste_masks on the GPU.
#include "cuda_common.h"
#include "paste_masks.h"

namespace fastdet {
namespace {

Tensor paste_masks(const Tensor& masks, const Tensor& boxes, int64_t height, int64_t width, double threshold) {
  const DeviceGuard guard(masks.get_device_index());
  PasteMasksArguments arguments(masks, boxes, height, width, threshold);
  check_cuda("paste_masks", paste_masks_cuda(arguments.args, current_stream(masks)));
  return arguments.pasted;
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CUDA, m) { m.impl("paste_masks", TORCH_BOX(&fastdet::paste_masks)); }
