// grid_anchors on the GPU.
#include "anchors.h"
#include "cuda_common.h"

namespace fastdet {
namespace {

Tensor grid_anchors(const Tensor& base_anchors, std::vector<int64_t> sizes, std::vector<double> strides) {
  const DeviceGuard guard(base_anchors.get_device_index());
  GridAnchorsArgs args = grid_anchors_args(base_anchors, sizes, strides);
  const Tensor base = torch::stable::contiguous(base_anchors);
  Tensor anchors = new_tensor({args.total, 4}, ScalarType::Float, base_anchors);
  args.base = base.const_data_ptr<float>();
  args.anchors = anchors.mutable_data_ptr<float>();
  check_cuda("grid_anchors", grid_anchors_cuda(args, current_stream(base_anchors)));
  return anchors;
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CUDA, m) { m.impl("grid_anchors", TORCH_BOX(&fastdet::grid_anchors)); }
