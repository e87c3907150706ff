// Grid anchors on the GPU: one launch for all levels.
#include "anchors.h"
#include "cuda_common.cuh"

namespace fastdet {
namespace {

// A thread makes whole anchors in a grid-stride loop; no shared memory; deterministic.
__global__ void grid_anchors_kernel(const __grid_constant__ GridAnchorsArgs args) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < args.total; i += step) {
    int level = 0;
    while (level + 1 < args.num_levels && i >= args.levels[level + 1].first) ++level;
    const AnchorLevel& place = args.levels[level];
    const int64_t index = i - place.first;
    const int64_t cell = index / args.num_base;
    const float* base = args.base + (level * args.num_base + index % args.num_base) * 4;
    shift_anchor(place, base, cell / place.width, cell % place.width, args.anchors + i * 4);
  }
}

}  // namespace

int grid_anchors_cuda(const GridAnchorsArgs& args, void* stream) {
  if (args.total == 0) return cudaSuccess;
  grid_anchors_kernel<<<grid_blocks(args.total), kBlockThreads, 0, static_cast<cudaStream_t>(stream)>>>(args);
  return cudaGetLastError();
}

}  // namespace fastdet
