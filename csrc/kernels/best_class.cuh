// The best class of every prior, for dense post-processing on the GPU.
#pragma once

#include "cuda_common.cuh"
#include "cut.cuh"
#include "dense_postprocess.h"

namespace fastdet {
namespace {

__device__ __forceinline__ float read(const void* data, DType dtype, int64_t index) {
  if (dtype == DType::kFloat16) return device_widen(static_cast<const __half*>(data)[index]);
  if (dtype == DType::kBFloat16) return device_widen(static_cast<const __nv_bfloat16*>(data)[index]);
  return static_cast<const float*>(data)[index];
}

__device__ __forceinline__ float quality_of(const DensePostprocessArgs& args, int64_t row) {
  return args.quality == nullptr ? 1.0f : sigmoid(read(args.quality, args.quality_dtype, row));
}

// The best class of each prior and its score with the quality, [batch, num_priors].
struct BestClasses {
  float* scores;
  int32_t* labels;
};

// A warp takes whole priors in a grid-stride loop, a lane every 32nd class. Of classes with the same score the first one
// counts, which can have a lower logit than another. NaN in any class gives a NaN score.
__global__ void best_class_kernel(const __grid_constant__ DensePostprocessArgs args, const BestClasses best) {
  const int lane = threadIdx.x % 32;
  const int64_t total = args.batch * args.num_priors;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x / 32;
  for (int64_t row = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32; row < total; row += step) {
    float most = -INFINITY;
    bool spoiled = false;
    for (int64_t c = lane; c < args.num_classes; c += 32) {
      const float logit = read(args.logits, args.logits_dtype, row * args.num_classes + c);
      most = larger(logit, most);
      spoiled |= logit != logit;
    }
    for (int away = 16; away > 0; away /= 2) most = larger(__shfl_xor_sync(kAllLanes, most, away), most);
    const float score = __any_sync(kAllLanes, spoiled) ? nanf("") : sigmoid(most);
    int label = static_cast<int>(args.num_classes) - 1;
    for (int64_t start = 0; start < args.num_classes; start += 32) {
      const int64_t c = start + lane;
      const bool equal = c < args.num_classes &&
                         !(sigmoid(read(args.logits, args.logits_dtype, row * args.num_classes + c)) < score);
      const unsigned lanes = __ballot_sync(kAllLanes, equal);
      if (lanes == 0) continue;
      label = static_cast<int>(start) + __ffs(lanes) - 1;
      break;
    }
    if (lane == 0) {
      best.scores[row] = exact_mul(score, quality_of(args, row));
      best.labels[row] = label;
    }
  }
}

}  // namespace
}  // namespace fastdet
