// The smallest of many keys, found by one block without a sort, and sums over its threads.
#pragma once

#include <cstdint>

#include "cuda_common.cuh"

namespace fastdet {

constexpr int kCutThreads = 1024;  // of the block

// Which of a block's keys are taken: all below `key`, and the first `ties` of those that equal it.
struct Cut {
  uint32_t key;
  uint32_t ties;
};

constexpr int kDigits = 256;

struct CutMemory {
  uint32_t histogram[kDigits];
  uint32_t prefix;
  uint32_t left;
};

// The cut that takes `wanted` keys, of which there are more, from the most significant digit down. A block calls it
// together; visit(f) calls f with each of the thread's keys.
template <typename Visit>
__device__ Cut find_cut(const Visit& visit, uint32_t wanted, CutMemory* memory) {
  if (threadIdx.x == 0) {
    memory->prefix = 0;
    memory->left = wanted;
  }
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (int i = threadIdx.x; i < kDigits; i += kCutThreads) memory->histogram[i] = 0;
    __syncthreads();
    const uint32_t prefix = memory->prefix;
    const uint32_t mask = shift == 24 ? 0 : 0xFFFFFFFFu << (shift + 8);
    visit([&](uint32_t key) {
      if ((key & mask) != prefix) return;
      const uint32_t digit = key >> shift & (kDigits - 1);
      // Scores of one level share their first digits: one addition for all lanes with the same one.
      const unsigned peers = __match_any_sync(__activemask(), digit);
      if (static_cast<int>(threadIdx.x % 32) == __ffs(peers) - 1) atomicAdd(&memory->histogram[digit], __popc(peers));
    });
    __syncthreads();
    if (threadIdx.x < 32) {
      constexpr int kEach = kDigits / 32;
      uint32_t own = 0;
      for (int i = 0; i < kEach; ++i) own += memory->histogram[threadIdx.x * kEach + i];
      uint32_t up_to = own;
      for (int offset = 1; offset < 32; offset *= 2) {
        const uint32_t other = __shfl_up_sync(kAllLanes, up_to, offset);
        if (static_cast<int>(threadIdx.x) >= offset) up_to += other;
      }
      const uint32_t left = memory->left;
      __syncwarp();
      uint32_t before = up_to - own;
      if (before < left && left <= up_to) {  // true for one lane
        int digit = threadIdx.x * kEach;
        while (before + memory->histogram[digit] < left) before += memory->histogram[digit++];
        memory->left = left - before;
        memory->prefix = prefix | static_cast<uint32_t>(digit) << shift;
      }
    }
    __syncthreads();
  }
  const Cut cut{memory->prefix, memory->left};
  __syncthreads();
  return cut;
}

// Sums of two numbers of each thread over the threads before it, and over the block.
struct PairSum {
  uint32_t first, second, first_total, second_total;
};

__device__ inline PairSum exclusive_sums(bool first, bool second, uint32_t (*warp_sums)[2]) {
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const unsigned firsts = __ballot_sync(kAllLanes, first);
  const unsigned seconds = __ballot_sync(kAllLanes, second);
  if (lane == 0) {
    warp_sums[warp][0] = __popc(firsts);
    warp_sums[warp][1] = __popc(seconds);
  }
  __syncthreads();
  PairSum sums{};
  for (int w = 0; w < kCutThreads / 32; ++w) {
    if (w == warp) {
      sums.first = sums.first_total;
      sums.second = sums.second_total;
    }
    sums.first_total += warp_sums[w][0];
    sums.second_total += warp_sums[w][1];
  }
  const unsigned lower = (1u << lane) - 1;
  sums.first += __popc(firsts & lower);
  sums.second += __popc(seconds & lower);
  __syncthreads();
  return sums;
}

}  // namespace fastdet
