// Pictures resized into a batch on the GPU: a thread makes whole pixels, one launch makes the batch.
#include "cuda_common.cuh"
#include "fit_images.h"

namespace fastdet {
namespace {

__device__ __forceinline__ void fit_pixel(const FitImagesArgs& args, const int64_t* place, const int64_t* size,
                                          int64_t y, int64_t x, uint8_t* out) {
  const int64_t height = place[1], width = place[2];
  const uint8_t* pixels = args.pixels + place[0];
  if (fit_halves(height, width, size[0], size[1])) {
    const uint8_t* upper = pixels + (2 * y * width + 2 * x) * kPictureChannels;
    const uint8_t* lower = upper + width * kPictureChannels;
    for (int64_t c = 0; c < kPictureChannels; ++c) {
      const int sum = upper[c] + upper[c + kPictureChannels] + lower[c] + lower[c + kPictureChannels];
      out[c * args.channel_stride] = static_cast<uint8_t>((sum + 2) >> 2);
    }
    return;
  }
  const FitTap row = fit_tap(y, height, size[0], false);
  const FitTap column = fit_tap(x, width, size[1], true);
  const uint8_t* upper = pixels + row.cell * width * kPictureChannels;
  const uint8_t* lower = pixels + row.next * width * kPictureChannels;
  for (int64_t c = 0; c < kPictureChannels; ++c) {
    out[c * args.channel_stride] = fit_column(fit_row(upper, column, c), fit_row(lower, column, c), row);
  }
}

__global__ void fit_images_kernel(const __grid_constant__ FitImagesArgs args) {
  const int64_t pixels = args.height * args.width;
  const int64_t total = args.count * pixels;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += step) {
    const int64_t index = i / pixels;
    const int64_t pixel = i - index * pixels;
    const int64_t y = pixel / args.width;
    const int64_t x = pixel - y * args.width;
    const int64_t* place = args.pictures + index * 3;
    const int64_t* size = args.sizes + index * 2;
    uint8_t* out = args.images + index * pixels * kPictureChannels + y * args.row_stride + x * args.column_stride;
    if (fit_is_within(args, place, size) && y < size[0] && x < size[1]) {
      fit_pixel(args, place, size, y, x, out);
    } else {
      for (int64_t c = 0; c < kPictureChannels; ++c) out[c * args.channel_stride] = 0;
    }
  }
}

}  // namespace

int fit_images_cuda(const FitImagesArgs& args, void* stream) {
  const int64_t total = args.count * args.height * args.width;
  if (total == 0) return cudaSuccess;
  fit_images_kernel<<<grid_blocks(total), kBlockThreads, 0, static_cast<cudaStream_t>(stream)>>>(args);
  return cudaGetLastError();
}

}  // namespace fastdet
