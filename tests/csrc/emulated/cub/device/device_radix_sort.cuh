// CUB's sort of pairs on the CPU.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace cub {

struct DeviceRadixSort {
  // Stable, by the given bits of the keys. Without memory it says how much it wants.
  template <typename Key, typename Value>
  static cudaError_t SortPairs(void* memory, size_t& bytes, const Key* keys, Key* keys_out, const Value* values,
                               Value* values_out, int64_t count, int begin, int end, cudaStream_t = nullptr) {
    if (memory == nullptr) {
      bytes = 1;
      return cudaSuccess;
    }
    const Key mask = end - begin >= 64 ? ~Key{0} : (Key{1} << (end - begin)) - 1;
    std::vector<int64_t> order(count);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return (keys[a] >> begin & mask) < (keys[b] >> begin & mask);
    });
    for (int64_t i = 0; i < count; ++i) keys_out[i] = keys[order[i]], values_out[i] = values[order[i]];
    return cudaSuccess;
  }
};

}  // namespace cub
