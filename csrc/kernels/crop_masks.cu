// Mask crops on the GPU.
#include "crop_masks.h"
#include "cuda_common.cuh"

namespace fastdet {
namespace {

// A thread makes whole values in a grid-stride loop; sums in float in the order of the CPU twin, so both are equal.
__global__ void crop_masks_kernel(const __grid_constant__ CropMasksArgs args) {
  const int64_t pixels = args.side * args.side;
  const int64_t total = args.num_boxes * pixels;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += step) {
    const int64_t index = i / pixels;
    const int64_t pixel = i % pixels;
    const int64_t mask = args.mask_index[index];
    float value = 0.0f;
    if (has_mask(args, mask)) {
      const float* box = args.boxes + index * 4;
      const RoiAxis<float> y = roi_axis(box[1], box[3], 1.0f, args.side, 0, true);
      const RoiAxis<float> x = roi_axis(box[0], box[2], 1.0f, args.side, 0, true);
      value = crop_value(mask_window(args, mask), y, x, pixel / args.side, pixel % args.side, args.image_h,
                         args.image_w);
    }
    args.crops[i] = value;
  }
}

}  // namespace

int crop_masks_cuda(const CropMasksArgs& args, void* stream) {
  const int64_t total = args.num_boxes * args.side * args.side;
  if (total == 0) return cudaSuccess;
  crop_masks_kernel<<<grid_blocks(total), kBlockThreads, 0, static_cast<cudaStream_t>(stream)>>>(args);
  return cudaGetLastError();
}

}  // namespace fastdet
