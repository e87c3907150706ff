// Boxes of one image split by group, on the host. Included by the CPU kernels alone.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

namespace fastdet {

struct Keyed {
  uint64_t key;
  int64_t index;
};

// Stable ascending sort by key: least significant digit first, digits that all items share are skipped.
inline void sort_by_key(std::vector<Keyed>& items) {
  constexpr size_t kFewItems = 256;
  if (items.size() < kFewItems) {
    std::stable_sort(items.begin(), items.end(), [](const Keyed& a, const Keyed& b) { return a.key < b.key; });
    return;
  }
  constexpr int kDigitBits = 11;
  constexpr uint64_t kDigits = uint64_t{1} << kDigitBits;
  std::vector<Keyed> sorted(items.size());
  for (int shift = 0; shift < 64; shift += kDigitBits) {
    std::array<size_t, kDigits> place{};
    for (const Keyed& item : items) ++place[(item.key >> shift) & (kDigits - 1)];
    if (std::find(place.begin(), place.end(), items.size()) != place.end()) continue;
    size_t total = 0;
    for (size_t& start : place) {
      const size_t count = start;
      start = total;
      total += count;
    }
    for (const Keyed& item : items) sorted[place[(item.key >> shift) & (kDigits - 1)]++] = item;
    items.swap(sorted);
  }
}

// Ranks (positions in `order`) group by group, in rank order within each; `starts` ends with the number of ranks.
struct Segments {
  std::vector<int64_t> ranks;
  std::vector<int64_t> starts;
};

// `order[rank]` is an index; its size() is the number of ranks.
template <typename Order>
Segments split_by_group(const Order& order, const int64_t* groups) {
  const int64_t size = static_cast<int64_t>(order.size());
  Segments segments;
  segments.ranks.resize(size);
  if (groups == nullptr) {
    for (int64_t i = 0; i < size; ++i) segments.ranks[i] = i;
    segments.starts = {0, size};
    return segments;
  }
  std::vector<Keyed> items(size);
  for (int64_t i = 0; i < size; ++i) items[i] = {static_cast<uint64_t>(groups[order[i]]), i};
  sort_by_key(items);
  for (int64_t i = 0; i < size; ++i) {
    if (i == 0 || items[i].key != items[i - 1].key) segments.starts.push_back(i);
    segments.ranks[i] = items[i].index;
  }
  segments.starts.push_back(size);
  return segments;
}

}  // namespace fastdet
