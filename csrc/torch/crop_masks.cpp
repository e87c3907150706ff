// crop_masks on the CPU.
#include "crop_masks.h"

namespace fastdet {
namespace {

Tensor crop_masks(const Tensor& bits, const Tensor& offsets, const Tensor& windows, const Tensor& mask_index,
                  const Tensor& boxes, int64_t output_size, int64_t image_h, int64_t image_w) {
  CropMasksArguments arguments(bits, offsets, windows, mask_index, boxes, output_size, image_h, image_w);
  CropMasksArgs& args = arguments.args;
  const int64_t bad = crop_masks_first_bad_box(args);
  if (bad >= 0) {
    const int64_t mask = args.mask_index[bad];
    check(mask < args.num_masks, "`mask_index` row ", bad, " is ", mask, ", but there are ", args.num_masks, " masks");
    check(false, "the bitmap of mask ", mask, " does not lie inside `bits`, which has ", args.num_bits, " elements");
  }
  Tensor crops = new_tensor({args.num_boxes, output_size, output_size}, ScalarType::Float, bits);
  args.crops = crops.mutable_data_ptr<float>();
  crop_masks_cpu(args, run_in_torch_pool);
  return crops;
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CPU, m) { m.impl("crop_masks", TORCH_BOX(&fastdet::crop_masks)); }
