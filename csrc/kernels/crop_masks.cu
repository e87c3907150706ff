// Mask crops on the GPU.
#include "crop_masks.h"
#include "cuda_common.cuh"

namespace fastdet {
namespace {

// One value of one crop.
__device__ __forceinline__ float crop_value(const CropMasksArgs& args, int64_t mask, const float* box, int64_t bin_y,
                                            int64_t bin_x) {
  const MaskWindow window = mask_window(args, mask);
  const RoiAxis<float> y_axis = roi_axis(box[1], box[3], 1.0f, args.side, 0, true);
  const RoiAxis<float> x_axis = roi_axis(box[0], box[2], 1.0f, args.side, 0, true);
  const SampleRange ys = samples_near(y_axis, bin_y, window.y0, window.height);
  const SampleRange xs = samples_near(x_axis, bin_x, window.x0, window.width);
  float sum = 0.0f;
  for (int64_t i = ys.begin; i < ys.end; ++i) {
    const AxisSample<float> y = axis_sample(sample_position(y_axis, bin_y, i), static_cast<int>(args.image_h));
    for (int64_t j = xs.begin; j < xs.end; ++j) {
      const AxisSample<float> x = axis_sample(sample_position(x_axis, bin_x, j), static_cast<int>(args.image_w));
      sum = exact_add(sum, mask_sample(window, y, x));
    }
  }
  return sum / sample_count(y_axis, x_axis);
}

// A thread makes whole values in a grid-stride loop; sums in float in the order of the CPU twin, so both are equal.
__global__ void crop_masks_kernel(const __grid_constant__ CropMasksArgs args) {
  const int64_t pixels = args.side * args.side;
  const int64_t total = args.num_boxes * pixels;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += step) {
    const int64_t index = i / pixels;
    const int64_t pixel = i % pixels;
    const int64_t mask = args.mask_index[index];
    const bool present = has_mask(args, mask);
    args.crops[i] =
        present ? crop_value(args, mask, args.boxes + index * 4, pixel / args.side, pixel % args.side) : 0.0f;
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
