// NMS on the GPU: one stable sort, then one block an image that walks the boxes in score order, 64 at a time.
//
// Up to 8192 boxes an image are sorted by one block each, so that the whole takes two launches; more by CUB. No matrix of pairs is stored, the host is never waited for, and the walk ends when the output is full, so cost
// grows with (boxes looked at) x (boxes kept).
#include <cub/block/block_radix_sort.cuh>
#include <cub/device/device_radix_sort.cuh>

#include "boxes.h"
#include "cuda_common.cuh"
#include "nms.h"
#include "nms_walk.cuh"

namespace fastdet {
namespace {

// Where each array starts in the workspace; every start is a multiple of 256 bytes.
struct Workspace {
  size_t keys_in, keys_out, order_in, order_out, kept_boxes, kept_groups, sort, total;
};

int image_bits(int64_t batch) {
  int bits = 0;
  while ((int64_t{1} << bits) < batch) ++bits;
  return bits;
}

cudaError_t plan_workspace(int64_t batch, int64_t size, int64_t max_output, size_t* sort_bytes, Workspace* plan) {
  const int64_t items = batch * size;
  const int64_t kept = batch * (max_output < size ? max_output : size);
  *sort_bytes = 0;
  const cudaError_t error = cub::DeviceRadixSort::SortPairs(
      nullptr, *sort_bytes, static_cast<const uint64_t*>(nullptr), static_cast<uint64_t*>(nullptr),
      static_cast<const int32_t*>(nullptr), static_cast<int32_t*>(nullptr), items, 0, 32 + image_bits(batch));
  size_t at = 0;
  const auto take = [&at](size_t bytes) {
    const size_t start = at;
    at += (bytes + 255) / 256 * 256;
    return start;
  };
  plan->keys_in = take(items * sizeof(uint64_t));
  plan->keys_out = take(items * sizeof(uint64_t));
  plan->order_in = take(items * sizeof(int32_t));
  plan->order_out = take(items * sizeof(int32_t));
  plan->kept_boxes = take(kept * sizeof(float4));
  plan->kept_groups = take(kept * sizeof(int64_t));
  plan->sort = take(*sort_bytes);
  plan->total = at;
  return error;
}

// A thread writes sort keys (image, then score descending, boxes that are not valid last) in a grid-stride loop.
__global__ void nms_keys_kernel(NmsInput input, uint64_t* keys, int32_t* order) {
  const int64_t items = input.batch * input.size;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < items; i += step) {
    const bool valid = input.valid == nullptr || input.valid[i];
    const uint64_t image = static_cast<uint64_t>(i / input.size);
    keys[i] = (image << 32) | (valid ? score_key(input.scores[i]) : kInvalidScoreKey);
    order[i] = static_cast<int32_t>(i % input.size);
  }
}

constexpr int kSortThreads = 1024;
constexpr int kMostSortItems = 8;
constexpr int64_t kMostInBlock = kSortThreads * kMostSortItems;

// A block sorts the boxes of one image, at most kItems a thread: keys and order as the kernel above writes them, but
// sorted. Stable. Shared memory: that of CUB's block sort.
template <int kItems>
__global__ void __launch_bounds__(kSortThreads) nms_sort_kernel(NmsInput input, uint64_t* keys, int32_t* order) {
  using Sort = cub::BlockRadixSort<uint32_t, kSortThreads, kItems, int32_t>;
  __shared__ typename Sort::TempStorage memory;
  const int64_t image = blockIdx.x;
  const int64_t first = image * input.size;
  uint32_t own_keys[kItems];
  int32_t own_order[kItems];
#pragma unroll
  for (int k = 0; k < kItems; ++k) {
    const int32_t i = static_cast<int32_t>(threadIdx.x) * kItems + k;
    const bool valid = i < input.size && (input.valid == nullptr || input.valid[first + i]);
    own_keys[k] = valid ? score_key(input.scores[first + i]) : kInvalidScoreKey;
    own_order[k] = i;
  }
  Sort(memory).SortBlockedToStriped(own_keys, own_order);
#pragma unroll
  for (int k = 0; k < kItems; ++k) {  // what lies behind the boxes is sorted behind them
    const int64_t i = static_cast<int64_t>(k) * kSortThreads + threadIdx.x;
    if (i < input.size) {
      keys[first + i] = static_cast<uint64_t>(image) << 32 | own_keys[k];
      order[first + i] = own_order[k];
    }
  }
}

cudaError_t sort_in_blocks(const NmsInput& input, uint64_t* keys, int32_t* order, cudaStream_t stream) {
  const unsigned images = static_cast<unsigned>(input.batch);
  if (input.size <= kSortThreads) {
    nms_sort_kernel<1><<<images, kSortThreads, 0, stream>>>(input, keys, order);
  } else if (input.size <= 2 * kSortThreads) {
    nms_sort_kernel<2><<<images, kSortThreads, 0, stream>>>(input, keys, order);
  } else if (input.size <= 4 * kSortThreads) {
    nms_sort_kernel<4><<<images, kSortThreads, 0, stream>>>(input, keys, order);
  } else {
    nms_sort_kernel<kMostSortItems><<<images, kSortThreads, 0, stream>>>(input, keys, order);
  }
  return cudaGetLastError();
}

// One block walks one image.
__global__ void __launch_bounds__(kWalkThreads)
    nms_greedy_kernel(NmsInput input, const uint64_t* keys, const int32_t* order, int64_t max_output,
                      float4* all_kept_boxes, int64_t* all_kept_groups, int64_t* all_kept, int64_t* counts) {
  __shared__ NmsTile<int64_t> tile;
  const int64_t image = blockIdx.x;
  const int64_t limit = max_output < input.size ? max_output : input.size;
  NmsWalk<int64_t> walk;
  walk.boxes = reinterpret_cast<const float4*>(input.boxes) + image * input.size;
  walk.groups = input.groups == nullptr ? nullptr : input.groups + image * input.size;
  walk.threshold = input.threshold;
  walk.limit = limit;
  walk.kept_boxes = all_kept_boxes + image * limit;
  walk.kept_groups = all_kept_groups + image * limit;
  walk.kept = all_kept + image * max_output;
  keys += image * input.size;
  order += image * input.size;
  const int64_t count = walk_boxes(tile, walk, input.size, 0, [keys, order](int64_t position) {
    return static_cast<uint32_t>(keys[position]) == kInvalidScoreKey ? -1 : order[position];
  });
  for (int64_t slot = count + threadIdx.x; slot < max_output; slot += kWalkThreads) walk.kept[slot] = 0;
  if (threadIdx.x == 0) counts[image] = count;
}

}  // namespace

size_t nms_cuda_workspace(int64_t batch, int64_t size, int64_t max_output, int* error) {
  size_t sort_bytes = 0;
  Workspace plan{};
  *error = cudaSuccess;
  if (batch == 0 || size == 0 || max_output == 0) return 0;
  *error = plan_workspace(batch, size, max_output, &sort_bytes, &plan);
  return plan.total;
}

int nms_cuda(const NmsInput& input, int64_t max_output, int64_t* kept, int64_t* counts, void* workspace,
             size_t workspace_bytes, void* stream_pointer) {
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_pointer);
  if (input.batch == 0) return cudaSuccess;
  if (input.size == 0 || max_output == 0) {
    const size_t slots = static_cast<size_t>(input.batch * max_output);
    if (slots > 0) {
      const cudaError_t error = cudaMemsetAsync(kept, 0, slots * sizeof(int64_t), stream);
      if (error != cudaSuccess) return error;
    }
    return cudaMemsetAsync(counts, 0, static_cast<size_t>(input.batch) * sizeof(int64_t), stream);
  }
  size_t sort_bytes = 0;
  Workspace plan{};
  cudaError_t error = plan_workspace(input.batch, input.size, max_output, &sort_bytes, &plan);
  if (error != cudaSuccess) return error;
  if (workspace_bytes < plan.total) return cudaErrorInvalidValue;
  char* memory = static_cast<char*>(workspace);
  uint64_t* keys_in = reinterpret_cast<uint64_t*>(memory + plan.keys_in);
  uint64_t* keys = reinterpret_cast<uint64_t*>(memory + plan.keys_out);
  int32_t* order_in = reinterpret_cast<int32_t*>(memory + plan.order_in);
  int32_t* order = reinterpret_cast<int32_t*>(memory + plan.order_out);
  const int64_t items = input.batch * input.size;
  if (input.size <= kMostInBlock) {
    error = sort_in_blocks(input, keys, order, stream);
  } else {
    nms_keys_kernel<<<grid_blocks(items), kBlockThreads, 0, stream>>>(input, keys_in, order_in);
    error = cudaGetLastError();
    if (error != cudaSuccess) return error;
    error = cub::DeviceRadixSort::SortPairs(memory + plan.sort, sort_bytes, const_cast<const uint64_t*>(keys_in), keys,
                                            const_cast<const int32_t*>(order_in), order, items, 0,
                                            32 + image_bits(input.batch), stream);
  }
  if (error != cudaSuccess) return error;
  nms_greedy_kernel<<<static_cast<unsigned>(input.batch), kWalkThreads, 0, stream>>>(
      input, keys, order, max_output, reinterpret_cast<float4*>(memory + plan.kept_boxes),
      reinterpret_cast<int64_t*>(memory + plan.kept_groups), kept, counts);
  return cudaGetLastError();
}

}  // namespace fastdet
