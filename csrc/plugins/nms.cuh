// Suppression in one kernel, for TensorRT: no sort before it, no workspace behind it.
#pragma once

#include "kernels/nms_walk.cuh"

namespace fastdet {

constexpr int kChunk = 4096;  // boxes that are sorted at once, in 32 KB of shared memory

// Boxes by their place in the order, each key once: (key of the score, index).
using NmsKey = unsigned long long;
constexpr NmsKey kEndOfKeys = static_cast<NmsKey>(kInvalidScoreKey) << 32;

struct NmsPluginArgs {
  const float* boxes;     // [batch, size, 4] xyxy
  const float* scores;    // [batch, size]
  const int32_t* groups;  // [batch, size], or [size] for all images
  const int32_t* valid;   // [batch, size]: not 0 for boxes that take part
  int32_t size;
  int32_t max_output;
  float threshold;
  bool shared_groups;
  int32_t* kept;         // [batch, max_output]; zeros behind the last
  int32_t* counts;       // [batch]
  int32_t* exact;        // [batch], ones
  float* kept_boxes;     // [batch, max_output, 4], scratch
  int32_t* kept_groups;  // [batch, max_output], scratch
};

struct NmsPluginMemory {
  NmsKey keys[kChunk];
  NmsTile<int32_t> tile;
  int32_t taken;
};

// The key of a box of the image whose boxes begin at `first`; at least kEndOfKeys for one that takes no part.
__device__ __forceinline__ NmsKey nms_key(const NmsPluginArgs& args, int64_t first, int32_t index) {
  const uint32_t key = args.valid[first + index] != 0 ? score_key(args.scores[first + index]) : kInvalidScoreKey;
  return static_cast<NmsKey>(key) << 32 | static_cast<uint32_t>(index);
}

// How many keys of an image lie in [from, to), for all threads of the block.
__device__ __forceinline__ int32_t keys_between(NmsPluginMemory& memory, const NmsPluginArgs& args, int64_t first,
                                                NmsKey from, NmsKey to) {
  if (threadIdx.x == 0) memory.taken = 0;
  __syncthreads();
  int32_t number = 0;
  for (int32_t i = threadIdx.x; i < args.size; i += kWalkThreads) {
    const NmsKey key = nms_key(args, first, i);
    number += key >= from && key < to ? 1 : 0;
  }
  for (int offset = 16; offset > 0; offset /= 2) number += __shfl_xor_sync(kAllLanes, number, offset);
  if (threadIdx.x % 32 == 0 && number > 0) atomicAdd(&memory.taken, number);
  __syncthreads();
  const int32_t total = memory.taken;
  __syncthreads();  // the next call clears it
  return total;
}

// Where the next chunk ends, which begins at `from`, and how many keys lie in it: all that are left, or at least a
// quarter of kChunk.
__device__ __forceinline__ NmsKey end_of_chunk(NmsPluginMemory& memory, const NmsPluginArgs& args, int64_t first,
                                               NmsKey from, int32_t* number) {
  *number = keys_between(memory, args, first, from, kEndOfKeys);
  if (*number <= kChunk) return kEndOfKeys;
  NmsKey few = from, many = kEndOfKeys;  // keys are unique, so that no step passes over what is looked for
  while (true) {
    const NmsKey middle = few + (many - few) / 2;
    *number = keys_between(memory, args, first, from, middle);
    if (*number > kChunk) {
      many = middle;
    } else if (*number < kChunk / 4) {
      few = middle;
    } else {
      return middle;
    }
  }
}

// Puts the keys in [from, to), `number` of them, into the shared memory in order: a bitonic sort.
__device__ __forceinline__ void sort_chunk(NmsPluginMemory& memory, const NmsPluginArgs& args, int64_t first,
                                           NmsKey from, NmsKey to, int32_t number) {
  if (threadIdx.x == 0) memory.taken = 0;
  __syncthreads();
  for (int32_t i = threadIdx.x; i < args.size; i += kWalkThreads) {
    const NmsKey key = nms_key(args, first, i);
    if (key >= from && key < to) memory.keys[atomicAdd(&memory.taken, 1)] = key;
  }
  int32_t padded = 2;
  while (padded < number) padded *= 2;
  for (int32_t i = number + static_cast<int32_t>(threadIdx.x); i < padded; i += kWalkThreads) {
    memory.keys[i] = kEndOfKeys;
  }
  for (int32_t width = 2; width <= padded; width *= 2) {
    for (int32_t distance = width / 2; distance > 0; distance /= 2) {
      __syncthreads();
      for (int32_t i = threadIdx.x; i < padded / 2; i += kWalkThreads) {
        const int32_t low = 2 * i - (i & (distance - 1));
        const NmsKey a = memory.keys[low], b = memory.keys[low + distance];
        const bool ascending = (low & width) == 0;
        if ((a > b) == ascending) {
          memory.keys[low] = b;
          memory.keys[low + distance] = a;
        }
      }
    }
  }
  __syncthreads();
}

// A block of kWalkThreads suppresses the boxes of image blockIdx.x: it sorts and walks chunks of the best ones until
// the output is full. Up to kChunk valid boxes are one chunk. Deterministic: keys are unique, so that the order in
// which they are gathered does not show.
__device__ __forceinline__ void nms_plugin(const NmsPluginArgs& args) {
  __shared__ NmsPluginMemory memory;
  const int64_t image = blockIdx.x;
  const int64_t first = image * args.size;
  NmsWalk<int32_t> walk;
  walk.boxes = reinterpret_cast<const float4*>(args.boxes) + first;
  walk.groups = args.groups + (args.shared_groups ? 0 : first);
  walk.threshold = args.threshold;
  walk.limit = args.max_output;
  walk.kept_boxes = reinterpret_cast<float4*>(args.kept_boxes) + image * args.max_output;
  walk.kept_groups = args.kept_groups + image * args.max_output;
  walk.kept = args.kept + image * args.max_output;
  int64_t count = 0;
  NmsKey from = 0;
  while (count < walk.limit && from < kEndOfKeys) {
    int32_t number;
    const NmsKey to = end_of_chunk(memory, args, first, from, &number);
    sort_chunk(memory, args, first, from, to, number);
    const NmsKey* keys = memory.keys;
    count = walk_boxes(memory.tile, walk, number, count, [keys](int64_t position) {
      return static_cast<int32_t>(static_cast<uint32_t>(keys[position]));
    });
    from = to;
  }
  for (int64_t slot = count + threadIdx.x; slot < args.max_output; slot += kWalkThreads) walk.kept[slot] = 0;
  if (threadIdx.x == 0) {
    args.counts[image] = static_cast<int32_t>(count);
    args.exact[image] = 1;
  }
}

}  // namespace fastdet
