// The walk of greedy NMS over boxes in score order, by one block: what the op's kernel and TensorRT's plugin share.
#pragma once

#include "boxes.h"
#include "cuda_common.cuh"

namespace fastdet {

constexpr int kTile = 64;
constexpr int kWalkThreads = 1024;
constexpr int kWalkWarps = kWalkThreads / 32;
constexpr int kRowsPerWarp = kTile / kWalkWarps;

using Word = unsigned long long;

// The boxes of one image and where those that are kept go. Index is the type of groups and indices.
template <typename Index>
struct NmsWalk {
  const float4* boxes;
  const Index* groups;  // or null: one group
  float threshold;
  int64_t limit;        // of kept boxes
  float4* kept_boxes;   // [limit], scratch
  Index* kept_groups;   // [limit], scratch
  Index* kept;          // [limit]
};

// The tile of 64 boxes that a block is looking at, in shared memory.
template <typename Index>
struct NmsTile {
  float4 box[kTile];
  Index group[kTile];
  int32_t index[kTile];
  Word overlaps[kTile];        // bit j of row i: box i suppresses the later box j
  unsigned valid[2];           // bit i: the slot holds a valid box
  unsigned char alive[kTile];  // not suppressed by a box kept before this tile
  int64_t count;               // of kept boxes
};

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

// Which boxes of a tile are kept, by one warp. Bit i of the fix-point of kept = alive & ~(rows of kept) depends on
// lower bits only, so it is unique and equals the greedy result; it is reached in as many rounds as the longest
// chain of suppressions, usually one or two.
template <typename Index>
__device__ __forceinline__ Word kept_of_tile(const NmsTile<Index>& tile, Word alive, int lane) {
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

// A block of kWalkThreads walks `size` boxes by descending score, beginning with `count` kept ones: index_at(position)
// is a box's index, or -1 for one that is not valid; no valid one comes behind such. A warp owns two boxes of each
// tile: it compares them with all kept boxes (lanes over the kept list) and with the tile's other boxes (lanes over
// columns). Returns the number of kept boxes to all threads, without a barrier behind. Deterministic.
template <typename Index, typename IndexAt>
__device__ int64_t walk_boxes(NmsTile<Index>& tile, const NmsWalk<Index>& walk, int64_t size, int64_t count,
                              const IndexAt& index_at) {
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  for (int64_t start = 0; start < size && count < walk.limit; start += kTile) {
    if (threadIdx.x < kTile) {
      const int64_t position = start + threadIdx.x;
      const int32_t found = position < size ? static_cast<int32_t>(index_at(position)) : -1;
      const bool valid = found >= 0;
      const int32_t index = valid ? found : 0;
      tile.index[threadIdx.x] = index;
      tile.box[threadIdx.x] = valid ? walk.boxes[index] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      tile.group[threadIdx.x] = valid && walk.groups != nullptr ? walk.groups[index] : 0;
      const unsigned word = __ballot_sync(kAllLanes, valid);
      if (lane == 0) tile.valid[warp] = word;
    }
    __syncthreads();

    bool suppressed[kRowsPerWarp] = {};
    for (int64_t k = lane; k < count; k += 32) {
      const float4 other = walk.kept_boxes[k];
      const Index group = walk.kept_groups[k];
#pragma unroll
      for (int r = 0; r < kRowsPerWarp; ++r) {
        const int row = warp * kRowsPerWarp + r;
        suppressed[r] |= group == tile.group[row] && suppresses(other, tile.box[row], walk.threshold);
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
                         suppresses(tile.box[row], tile.box[column], walk.threshold);
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
        if ((chosen >> row & 1) != 0 && slot < walk.limit) {
          walk.kept[slot] = tile.index[row];
          walk.kept_boxes[slot] = tile.box[row];
          walk.kept_groups[slot] = tile.group[row];
        }
      }
      if (lane == 0) {
        const int64_t reached = count + __popcll(chosen);
        tile.count = reached < walk.limit ? reached : walk.limit;
      }
    }
    __syncthreads();
    count = tile.count;
    if ((tile.valid[0] & tile.valid[1]) != kAllLanes) break;
    // The next tile overwrites what this comparison reads.
    __syncthreads();
  }
  return count;
}

}  // namespace fastdet
