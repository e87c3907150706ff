// grid_anchors on the CPU.
#include "anchors.h"

namespace fastdet {
namespace {

Tensor grid_anchors(const Tensor& base_anchors, std::vector<int64_t> sizes, std::vector<double> strides) {
  GridAnchorsArgs args = grid_anchors_args(base_anchors, sizes, strides);
  const Tensor base = torch::stable::contiguous(base_anchors);
  Tensor anchors = new_tensor({args.total, 4}, ScalarType::Float, base_anchors);
  args.base = base.const_data_ptr<float>();
  args.anchors = anchors.mutable_data_ptr<float>();
  grid_anchors_cpu(args, run_in_torch_pool);
  return anchors;
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CPU, m) { m.impl("grid_anchors", TORCH_BOX(&fastdet::grid_anchors)); }
