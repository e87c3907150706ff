// Mask crops on the CPU.
#include "crop_masks.h"

#include <algorithm>

namespace fastdet {

int64_t crop_masks_first_bad_box(const CropMasksArgs& args) {
  for (int64_t i = 0; i < args.num_boxes; ++i) {
    if (args.mask_index[i] >= 0 && !has_mask(args, args.mask_index[i])) return i;
  }
  return -1;
}

void crop_masks_cpu(const CropMasksArgs& args, ParallelRunner run) {
  const int64_t pixels = args.side * args.side;
  const int64_t box_nanoseconds = std::max<int64_t>(1, pixels * 300);  // a box of a few bins' size in pixels
  const int64_t grain = std::max<int64_t>(1, kMinTaskNanoseconds / box_nanoseconds);
  parallel_for(run, args.num_boxes, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* crop = args.crops + i * pixels;
      if (args.mask_index[i] < 0) {
        std::fill(crop, crop + pixels, 0.0f);
        continue;
      }
      const MaskWindow window = mask_window(args, args.mask_index[i]);
      const float* box = args.boxes + i * 4;
      const RoiAxis<float> y = roi_axis(box[1], box[3], 1.0f, args.side, 0, true);
      const RoiAxis<float> x = roi_axis(box[0], box[2], 1.0f, args.side, 0, true);
      for (int64_t p = 0; p < pixels; ++p) {
        crop[p] = crop_value(window, y, x, p / args.side, p % args.side, args.image_h, args.image_w);
      }
    }
  });
}

}  // namespace fastdet
