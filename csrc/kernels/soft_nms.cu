// Soft-NMS on the GPU: one block an image takes the best box, again and again, over all groups at once.
//
// Cost is (boxes kept) x (boxes / threads), so a bound on the output matters. Scores live in a workspace; results do
// not depend on the order in which threads run.
#include "boxes.h"
#include "cuda_common.cuh"
#include "soft_nms.h"

namespace fastdet {
namespace {

constexpr int kSoftThreads = 1024;
constexpr int kSoftWarps = kSoftThreads / 32;

using Key = unsigned long long;

// The maximum of keys is the largest score and, of equal ones, the lowest index; 0 is out of play.
__device__ __forceinline__ Key key_of(float score, int64_t index) {
  return static_cast<Key>(~score_key(score)) << 32 | (0xFFFFFFFFull - static_cast<Key>(index));
}

__device__ __forceinline__ Key block_maximum(Key key, Key* warps) {
  for (int away = 16; away > 0; away /= 2) {
    const Key other = __shfl_xor_sync(kAllLanes, key, away);
    key = other > key ? other : key;
  }
  __syncthreads();  // the last maximum has been read
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = key;
  __syncthreads();
  Key best = 0;
#pragma unroll
  for (int w = 0; w < kSoftWarps; ++w) best = warps[w] > best ? warps[w] : best;
  return best;
}

__global__ void __launch_bounds__(kSoftThreads)
    soft_nms_kernel(NmsInput input, SoftNmsRule rule, SoftNmsOutput output, float* workspace) {
  __shared__ Key warps[kSoftWarps];
  const int64_t image = blockIdx.x;
  const float4* boxes = reinterpret_cast<const float4*>(input.boxes) + image * input.size;
  const int64_t* groups = input.groups == nullptr ? nullptr : input.groups + image * input.size;
  float* scores = workspace + image * input.size;
  int64_t* kept = output.kept + image * output.max_output;
  float* kept_scores = output.scores + image * output.max_output;
  const float out_of_play = -INFINITY;
  Key mine = 0;
  for (int64_t i = threadIdx.x; i < input.size; i += kSoftThreads) {
    const bool valid = input.valid == nullptr || input.valid[image * input.size + i];
    const float given = input.scores[image * input.size + i];
    const float score = valid && given == given ? given : out_of_play;
    scores[i] = score;
    const Key key = score > out_of_play ? key_of(score, i) : 0;
    mine = key > mine ? key : mine;
  }
  int64_t count = 0;
  while (count < output.max_output) {
    const Key best = block_maximum(mine, warps);
    if (best == 0) break;
    const int64_t index = static_cast<int64_t>(0xFFFFFFFFull - (best & 0xFFFFFFFFull));
    const float top = scores[index];
    __syncthreads();  // all have read the score before its thread puts the box out of play
    if (threadIdx.x == 0) {
      kept[count] = index;
      kept_scores[count] = top;
    }
    ++count;
    if (!(top >= rule.min_score)) break;  // the best box of all, kept alone
    const float4 box = boxes[index];
    const float area = box_area(box.x, box.y, box.z, box.w);
    const int64_t group = groups == nullptr ? 0 : groups[index];
    mine = 0;
    for (int64_t i = threadIdx.x; i < input.size; i += kSoftThreads) {
      float score = scores[i];
      if (!(score > out_of_play)) continue;
      if (i == index) {
        scores[i] = out_of_play;
        continue;
      }
      if (groups == nullptr || groups[i] == group) {
        const float4 other = boxes[i];
        const float inter = intersection(box.x, box.y, box.z, box.w, other.x, other.y, other.z, other.w);
        score = softened(rule, score, inter, area, box_area(other.x, other.y, other.z, other.w));
      }
      if (!(score >= rule.min_score)) score = out_of_play;
      scores[i] = score;
      const Key key = score > out_of_play ? key_of(score, i) : 0;
      mine = key > mine ? key : mine;
    }
  }
  for (int64_t slot = count + threadIdx.x; slot < output.max_output; slot += kSoftThreads) {
    kept[slot] = 0;
    kept_scores[slot] = 0.0f;
  }
  if (threadIdx.x == 0) output.counts[image] = count;
}

// One block walks the boxes in order; a box without an owner takes the later ones that it overlaps.
__global__ void __launch_bounds__(kSoftThreads)
    nms_match_kernel(const float* boxes, int64_t size, float threshold, int64_t* owners) {
  for (int64_t i = threadIdx.x; i < size; i += kSoftThreads) owners[i] = -1;
  __syncthreads();
  for (int64_t i = 0; i < size; ++i) {
    if (owners[i] >= 0) continue;  // the same for all threads: written before the last barrier
    const float* a = boxes + i * 4;
    const float area = box_area(a[0], a[1], a[2], a[3]);
    __syncthreads();
    for (int64_t j = i + threadIdx.x; j < size; j += kSoftThreads) {
      if (owners[j] >= 0) continue;
      const float* b = boxes + j * 4;
      const float inter = intersection(a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]);
      if (j == i || iou_reaches(inter, area, box_area(b[0], b[1], b[2], b[3]), threshold)) owners[j] = i;
    }
    __syncthreads();
  }
}

}  // namespace

int soft_nms_cuda(const NmsInput& input, const SoftNmsRule& rule, const SoftNmsOutput& output, float* workspace,
                  void* stream) {
  if (input.batch == 0) return cudaSuccess;
  soft_nms_kernel<<<static_cast<unsigned>(input.batch), kSoftThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      input, rule, output, workspace);
  return cudaGetLastError();
}

int nms_match_cuda(const float* boxes, int64_t size, float threshold, int64_t* owners, void* stream) {
  if (size == 0) return cudaSuccess;
  nms_match_kernel<<<1, kSoftThreads, 0, static_cast<cudaStream_t>(stream)>>>(boxes, size, threshold, owners);
  return cudaGetLastError();
}

}  // namespace fastdet
