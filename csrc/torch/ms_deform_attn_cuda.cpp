// Deformable attention ops on the GPU.
#include "cuda_common.h"
#include "ms_deform_attn.h"

namespace fastdet {
namespace {

Tensor ms_deform_attn(const Tensor& value, std::vector<int64_t> sizes, const Tensor& locations,
                      const Tensor& weights) {
  const DeviceGuard guard(value.get_device_index());
  const MsDeformAttnArguments arguments(value, sizes, locations, weights);
  Tensor output = arguments.new_output();
  check_cuda("ms_deform_attn",
             ms_deform_attn_forward_cuda(arguments.args, output.mutable_data_ptr(), current_stream(value)));
  return output;
}

std::tuple<Tensor, Tensor, Tensor> ms_deform_attn_backward(const Tensor& grad, const Tensor& value,
                                                           std::vector<int64_t> sizes, const Tensor& locations,
                                                           const Tensor& weights) {
  const DeviceGuard guard(value.get_device_index());
  const MsDeformAttnArguments arguments(value, sizes, locations, weights);
  MsDeformAttnGradientTensors gradients(grad, arguments);
  torch::stable::zero_(gradients.value);
  check_cuda("ms_deform_attn_backward",
             ms_deform_attn_backward_cuda(arguments.args, gradients.pointers(), current_stream(value)));
  return {torch::stable::to(gradients.value, value.scalar_type()), gradients.locations, gradients.weights};
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CUDA, m) {
  m.impl("ms_deform_attn", TORCH_BOX(&fastdet::ms_deform_attn));
  m.impl("ms_deform_attn_backward", TORCH_BOX(&fastdet::ms_deform_attn_backward));
}
