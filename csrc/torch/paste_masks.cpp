// paste_masks on the CPU.
#include "paste_masks.h"

namespace fastdet {
namespace {

Tensor paste_masks(const Tensor& masks, const Tensor& boxes, int64_t height, int64_t width, double threshold) {
  PasteMasksArguments arguments(masks, boxes, height, width, threshold);
  if (arguments.pasted.numel() > 0) paste_masks_cpu(arguments.args, run_in_torch_pool);
  return arguments.pasted;
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CPU, m) { m.impl("paste_masks", TORCH_BOX(&fastdet::paste_masks)); }
