// CUB's sort of a block's pairs on the CPU.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace cub {

template <typename Key, int kThreads, int kItems, typename Value>
class BlockRadixSort {
 public:
  struct TempStorage {
    Key keys[kThreads * kItems];
    Value values[kThreads * kItems];
    int order[kThreads * kItems];
  };

  explicit BlockRadixSort(TempStorage& memory) : memory_(memory) {}

  // Stable. A thread gives kItems neighbours, and gets the items at its number, kThreads further, and so on.
  void SortBlockedToStriped(Key (&keys)[kItems], Value (&values)[kItems]) {
    for (int k = 0; k < kItems; ++k) {
      memory_.keys[threadIdx.x * kItems + k] = keys[k];
      memory_.values[threadIdx.x * kItems + k] = values[k];
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int* order = memory_.order;
      std::iota(order, order + kThreads * kItems, 0);
      std::stable_sort(order, order + kThreads * kItems,
                       [this](int a, int b) { return memory_.keys[a] < memory_.keys[b]; });
    }
    __syncthreads();
    for (int k = 0; k < kItems; ++k) {
      const int from = memory_.order[k * kThreads + threadIdx.x];
      keys[k] = memory_.keys[from];
      values[k] = memory_.values[from];
    }
    __syncthreads();
  }

 private:
  TempStorage& memory_;
};

}  // namespace cub
