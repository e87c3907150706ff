// crop_masks on the GPU.
#include "crop_masks.h"
#include "cuda_common.h"

namespace fastdet {
namespace {

Tensor crop_masks(const Tensor& bits, const Tensor& offsets, const Tensor& windows, const Tensor& mask_index,
                  const Tensor& boxes, int64_t output_size, int64_t image_h, int64_t image_w) {
  const DeviceGuard guard(bits.get_device_index());
  CropMasksArguments arguments(bits, offsets, windows, mask_index, boxes, output_size, image_h, image_w);
  Tensor crops = new_tensor({arguments.args.num_boxes, output_size, output_size}, ScalarType::Float, bits);
  arguments.args.crops = crops.mutable_data_ptr<float>();
  check_cuda("crop_masks", crop_masks_cuda(arguments.args, current_stream(bits)));
  return crops;
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CUDA, m) { m.impl("crop_masks", TORCH_BOX(&fastdet::crop_masks)); }
