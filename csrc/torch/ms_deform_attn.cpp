// Deformable attention ops on the CPU.
#include "ms_deform_attn.h"

#include "../kernels/memory.h"

namespace fastdet {
namespace {

Tensor ms_deform_attn(const Tensor& value, std::vector<int64_t> sizes, const Tensor& locations,
                      const Tensor& weights) {
  const MsDeformAttnArguments arguments(value, sizes, locations, weights);
  Tensor output = arguments.new_output();
  ms_deform_attn_forward_cpu(arguments.args, output.mutable_data_ptr(), run_in_torch_pool);
  return output;
}

std::tuple<Tensor, Tensor, Tensor> ms_deform_attn_backward(const Tensor& grad, const Tensor& value,
                                                           std::vector<int64_t> sizes, const Tensor& locations,
                                                           const Tensor& weights) {
  const MsDeformAttnArguments arguments(value, sizes, locations, weights);
  MsDeformAttnGradientTensors gradients(grad, arguments);
  for (Tensor* tensor : {&gradients.value, &gradients.locations, &gradients.weights}) {
    prefer_large_pages(tensor->mutable_data_ptr(), static_cast<size_t>(tensor->numel()) * tensor->element_size());
  }
  ms_deform_attn_backward_cpu(arguments.args, gradients.pointers(), run_in_torch_pool);
  return {torch::stable::to(gradients.value, value.scalar_type()), gradients.locations, gradients.weights};
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CPU, m) {
  m.impl("ms_deform_attn", TORCH_BOX(&fastdet::ms_deform_attn));
  m.impl("ms_deform_attn_backward", TORCH_BOX(&fastdet::ms_deform_attn_backward));
}
