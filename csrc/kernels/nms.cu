// NMS on the GPU: one stable sort, then one block an image that walks the boxes in score order, 64 at a time.
//
// Up to 8192 boxes an image are sorted by one block each, so that the whole takes two launches; more by CUB. No matrix of pairs is stored, the host is never waited for, and the walk ends when the output is full, so cost
// grows with (boxes looked at) x (boxes kept).
#include <cub/block/block_radix_sort.cuh>
#include <cub/device/device_radix_sort.cuh>

#include "boxes.h"
#include "cuda_common.cuh"
#include "nms.h"

namespace fastdet {
namespace {

constexpr int kTile = 64;
constexpr int kGreedyThreads = 1024;
constexpr int kWarps = kGreedyThreads / 32;
constexpr int kRowsPerWarp = kTile / kWarps;
constexpr unsigned kAllLanes = 0xFFFFFFFFu;

using Word = unsigned long long;

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

__device__ __forceinline__ bool suppresses(const float4& a, const float4& b, float threshold) {
  const float inter = intersection(a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w);
  return iou_exceeds(inter, box_area(a.x, a.y, a.z, a.w), box_area(b.x, b.y, b.z, b.w), threshold);
}

__device__ __forceinline__ unsigned or_over_warp(unsigned value) {
#if __CUDA_ARCH__ >= 800
  return __reduce_or_sync(kAllLanes, value);
#else
  for (int offset = 16; offset > 0; offset /= 2) value |= __shfl_xor_sync(kAllLanes, value, offset);
  return value;
#endif
}

__device__ __forceinline__ Word or_over_warp(Word value) {
  const unsigned low = or_over_warp(static_cast<unsigned>(value));
  const unsigned high = or_over_warp(static_cast<unsigned>(value >> 32));
  return static_cast<Word>(high) << 32 | low;
}

// The tile of 64 boxes that a block is looking at.
struct Tile {
  float4 box[kTile];
  int64_t group[kTile];
  int32_t index[kTile];
  Word overlaps[kTile];        // bit j of row i: box i suppresses the later box j
  unsigned valid[2];           // bit i: the slot holds a valid box
  unsigned char alive[kTile];  // not suppressed by a box kept before this tile
};

// Which boxes of a tile are kept, by one warp. Bit i of the fix-point of kept = alive & ~(rows of kept) depends on
// lower bits only, so it is unique and equals the greedy result; it is reached in as many rounds as the longest
// chain of suppressions, usually one or two.
__device__ __forceinline__ Word kept_of_tile(const Tile& tile, Word alive, int lane) {
  const Word low_row = tile.overlaps[lane];
  const Word high_row = tile.overlaps[lane + 32];
  Word kept = alive;
  while (true) {
    const Word mine = ((kept >> lane) & 1 ? low_row : 0) | ((kept >> (lane + 32)) & 1 ? high_row : 0);
    const Word next = alive & ~or_over_warp(mine);
    if (next == kept) return kept;
    kept = next;
  }
}

// One block walks one image. A warp owns two boxes of each tile: it compares them with all kept boxes (lanes over the
// kept list) and with the tile's other boxes (lanes over columns). Deterministic.
__global__ void __launch_bounds__(kGreedyThreads)
    nms_greedy_kernel(NmsInput input, const uint64_t* keys, const int32_t* order, int64_t max_output,
                      float4* all_kept_boxes, int64_t* all_kept_groups, int64_t* all_kept, int64_t* counts) {
  __shared__ Tile tile;
  __shared__ int64_t shared_count;
  const int64_t image = blockIdx.x;
  const int64_t limit = max_output < input.size ? max_output : input.size;
  const float4* boxes = reinterpret_cast<const float4*>(input.boxes) + image * input.size;
  const int64_t* groups = input.groups == nullptr ? nullptr : input.groups + image * input.size;
  float4* kept_boxes = all_kept_boxes + image * limit;
  int64_t* kept_groups = all_kept_groups + image * limit;
  int64_t* kept = all_kept + image * max_output;
  keys += image * input.size;
  order += image * input.size;
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  int64_t count = 0;

  for (int64_t start = 0; start < input.size && count < limit; start += kTile) {
    if (threadIdx.x < kTile) {
      const int64_t position = start + threadIdx.x;
      const bool valid = position < input.size && static_cast<uint32_t>(keys[position]) != kInvalidScoreKey;
      const int32_t index = valid ? order[position] : 0;
      tile.index[threadIdx.x] = index;
      tile.box[threadIdx.x] = valid ? boxes[index] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      tile.group[threadIdx.x] = valid && groups != nullptr ? groups[index] : 0;
      const unsigned word = __ballot_sync(kAllLanes, valid);
      if (lane == 0) tile.valid[warp] = word;
    }
    __syncthreads();

    bool suppressed[kRowsPerWarp] = {};
    for (int64_t k = lane; k < count; k += 32) {
      const float4 other = kept_boxes[k];
      const int64_t group = kept_groups[k];
#pragma unroll
      for (int r = 0; r < kRowsPerWarp; ++r) {
        const int row = warp * kRowsPerWarp + r;
        suppressed[r] |= group == tile.group[row] && suppresses(other, tile.box[row], input.threshold);
      }
    }
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) {
      const int row = warp * kRowsPerWarp + r;
      const bool dead = __any_sync(kAllLanes, suppressed[r]);
      Word overlaps = 0;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int column = lane + half * 32;
        const bool hit = column > row && tile.group[row] == tile.group[column] &&
                         suppresses(tile.box[row], tile.box[column], input.threshold);
        overlaps |= static_cast<Word>(__ballot_sync(kAllLanes, hit)) << (half * 32);
      }
      if (lane == 0) {
        tile.alive[row] = !dead;
        tile.overlaps[row] = overlaps;
      }
    }
    __syncthreads();

    if (warp == 0) {
      const unsigned low = __ballot_sync(kAllLanes, tile.alive[lane] != 0) & tile.valid[0];
      const unsigned high = __ballot_sync(kAllLanes, tile.alive[lane + 32] != 0) & tile.valid[1];
      const Word chosen = kept_of_tile(tile, static_cast<Word>(high) << 32 | low, lane);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = lane + half * 32;
        const int64_t slot = count + __popcll(chosen & ((Word{1} << row) - 1));
        if ((chosen >> row & 1) != 0 && slot < limit) {
          kept[slot] = tile.index[row];
          kept_boxes[slot] = tile.box[row];
          kept_groups[slot] = tile.group[row];
        }
      }
      if (lane == 0) {
        const int64_t reached = count + __popcll(chosen);
        shared_count = reached < limit ? reached : limit;
      }
    }
    __syncthreads();
    count = shared_count;
    // Boxes that are not valid are sorted behind all others: a tile with such a slot is the last one.
    if ((tile.valid[0] & tile.valid[1]) != kAllLanes) break;
    // The next tile overwrites what this comparison reads.
    __syncthreads();
  }

  for (int64_t slot = count + threadIdx.x; slot < max_output; slot += kGreedyThreads) kept[slot] = 0;
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
  nms_greedy_kernel<<<static_cast<unsigned>(input.batch), kGreedyThreads, 0, stream>>>(
      input, keys, order, max_output, reinterpret_cast<float4*>(memory + plan.kept_boxes),
      reinterpret_cast<int64_t*>(memory + plan.kept_groups), kept, counts);
  return cudaGetLastError();
}

}  // namespace fastdet
