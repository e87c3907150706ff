// Pasted masks on the GPU: a thread makes whole pixels.
#include "cuda_common.cuh"
#include "paste_masks.h"

namespace fastdet {
namespace {

__device__ __forceinline__ bool pasted_pixel(const PasteMasksArgs& args, int64_t index, int64_t y, int64_t x) {
  const float* box = args.boxes + index * 4;
  const PasteWindow xs = paste_window(box[0], box[2], args.width);
  const PasteWindow ys = paste_window(box[1], box[3], args.height);
  if (x < xs.begin || x >= xs.end || y < ys.begin || y >= ys.end) return false;
  const PasteSample column = paste_sample(x, box[0], box[2], args.side_w);
  const PasteSample row = paste_sample(y, box[1], box[3], args.side_h);
  const float* upper = args.masks + (index * args.side_h + row.cell) * args.side_w;
  const float* lower = args.masks + (index * args.side_h + row.next) * args.side_w;
  const float high = column.weight * upper[column.cell] + column.next_weight * upper[column.next];
  const float low = column.weight * lower[column.cell] + column.next_weight * lower[column.next];
  return row.weight * high + row.next_weight * low >= args.threshold;
}

__global__ void paste_masks_kernel(const __grid_constant__ PasteMasksArgs args) {
  const int64_t pixels = args.height * args.width;
  const int64_t total = args.count * pixels;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += step) {
    const int64_t index = i / pixels;
    const int64_t pixel = i - index * pixels;
    const int64_t y = pixel / args.width;
    args.pasted[i] = pasted_pixel(args, index, y, pixel - y * args.width) ? 1 : 0;
  }
}

}  // namespace

int paste_masks_cuda(const PasteMasksArgs& args, void* stream) {
  const int64_t total = args.count * args.height * args.width;
  if (total == 0) return cudaSuccess;
  paste_masks_kernel<<<grid_blocks(total), kBlockThreads, 0, static_cast<cudaStream_t>(stream)>>>(args);
  return cudaGetLastError();
}

}  // namespace fastdet
