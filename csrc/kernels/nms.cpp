// NMS on the CPU: sort by score, split by group, then one vectorised pass per kept box, over all boxes of its group or,
// where those are many, over those in its part of a grid.
#include "nms.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "boxes.h"
#include "cpu_kernels.h"
#include "memory.h"
#include "segments.h"

namespace fastdet {
namespace {

// Stable ascending sort by the high half of each item, whose low halves ascend; returns where the result lies.
uint64_t* sort_by_high_half(uint64_t* items, int64_t size, Arena& arena) {
  constexpr int64_t kFewItems = 256, kManyItems = 4096;
  if (size < kFewItems) {
    std::sort(items, items + size);
    return items;
  }
  // Counting all digits of few items would take longer than one more pass.
  const int digit_bits = size < kManyItems ? 8 : 11, passes = (31 + digit_bits) / digit_bits;
  const uint64_t digits = uint64_t{1} << digit_bits;
  const auto digit = [&](uint64_t item, int pass) { return (item >> (32 + pass * digit_bits)) & (digits - 1); };
  uint32_t* const places = arena.take<uint32_t>(passes * digits);
  std::fill_n(places, passes * digits, 0u);
  for (int64_t i = 0; i < size; ++i) {
    for (int pass = 0; pass < passes; ++pass) ++places[pass * digits + digit(items[i], pass)];
  }
  uint64_t* sorted = arena.take<uint64_t>(size);
  for (int pass = 0; pass < passes; ++pass) {
    uint32_t* const place = places + pass * digits;
    if (place[digit(items[0], pass)] == size) continue;
    uint32_t total = 0;
    for (uint64_t d = 0; d < digits; ++d) {
      const uint32_t count = place[d];
      place[d] = total;
      total += count;
    }
    for (int64_t i = 0; i < size; ++i) sorted[place[digit(items[i], pass)]++] = items[i];
    std::swap(items, sorted);
  }
  return items;
}

// Indices of the valid boxes by descending score.
class ScoreOrder {
 public:
  ScoreOrder(const float* scores, const bool* valid, int64_t size, Arena& arena) {
    uint64_t* items = arena.take<uint64_t>(size);
    for (int64_t i = 0; i < size; ++i) {
      items[size_] = static_cast<uint64_t>(score_key(scores[i])) << 32 | static_cast<uint64_t>(i);
      size_ += valid == nullptr || valid[i];
    }
    items_ = sort_by_high_half(items, size_, arena);
  }

  int64_t size() const { return size_; }
  int64_t operator[](int64_t rank) const { return static_cast<int64_t>(items_[rank] & 0xFFFFFFFFu); }

 private:
  const uint64_t* items_;
  int64_t size_ = 0;
};

int64_t padded(int64_t size) { return (size + kNmsPadding - 1) / kNmsPadding * kNmsPadding; }

// The boxes of one segment, one array per coordinate; `box_of(i)` is where the i-th lies.
template <typename BoxOf>
NmsSegment columns_of(int64_t size, const BoxOf& box_of, Arena& arena) {
  const int64_t all = padded(size);
  float* const columns = arena.take<float>(5 * all);
  NmsSegment segment{columns,           columns + all,            columns + 2 * all,        columns + 3 * all,
                     columns + 4 * all, arena.take<int64_t>(all), arena.take<int32_t>(all), size};
  std::fill_n(segment.dead, all, 0);
  for (int64_t i = 0; i < size; ++i) {
    const float* box = box_of(i);
    segment.x1[i] = box[0];
    segment.y1[i] = box[1];
    segment.x2[i] = box[2];
    segment.y2[i] = box[3];
    segment.area[i] = box_area(box[0], box[1], box[2], box[3]);
    segment.place[i] = i;
  }
  for (int64_t i = size; i < all; ++i) {
    segment.x1[i] = segment.y1[i] = segment.x2[i] = segment.y2[i] = segment.area[i] = 0.0f;
    segment.place[i] = 0;
  }
  return segment;
}

constexpr int64_t kManyBoxes = 512;  // from here on a grid is worth its making

bool wants_grid(int64_t size) {
  constexpr int64_t kMostPlaces = std::numeric_limits<int32_t>::max() - kNmsPadding;
  return size >= kManyBoxes && size <= kMostPlaces;
}

// The arrays of a grid, which the kernel fills.
NmsGrid grid_of(int64_t size, Arena& arena) {
  constexpr double kBoxesPerRow = 16.0;  // squared: of as many boxes, the grid has a row
  constexpr int32_t kColumnsPerRow = 4, kMaxRows = 256;
  const int64_t all = padded(size), sorted = size + kNmsPadding;
  const int32_t rows = std::min(kMaxRows, static_cast<int32_t>(std::sqrt(static_cast<double>(size) / kBoxesPerRow)));
  const int32_t columns = kColumnsPerRow * rows;
  int32_t* const numbers = arena.take<int32_t>(6 * all);
  float* const coordinates = arena.take<float>(5 * sorted);
  int32_t* const starts = arena.take<int32_t>(rows * columns + 3);
  int32_t* const dead = arena.take<int32_t>(sorted);
  const auto number = [&](int64_t array) { return numbers + array * all; };
  const auto coordinate = [&](int64_t array) { return coordinates + array * sorted; };
  std::fill_n(starts, rows * columns + 3, 0);
  std::fill_n(dead, sorted, 0);
  for (int64_t array = 0; array < 5; ++array) std::fill_n(coordinate(array) + size, kNmsPadding, 0.0f);
  return {rows,      columns,   number(0), number(1), number(2),
          number(3), number(4), number(5), starts,    {coordinate(0), coordinate(1), coordinate(2), coordinate(3),
                                                       coordinate(4), nullptr, dead, size}};
}

int64_t suppress(const NmsSegment& segment, float threshold, int64_t max_output, int64_t* kept, Arena& arena) {
  const CpuKernels& kernels = cpu_kernels();
  if (!wants_grid(segment.size)) return kernels.nms_segment(segment, threshold, max_output, kept);
  return kernels.nms_in_grid(segment, grid_of(segment.size, arena), threshold, max_output, kept);
}

// What an image or a segment of so many boxes takes from an arena, about.
constexpr size_t kBytesPerBox = 128, kFewBytes = 32 << 10;

size_t about_bytes(int64_t size) { return kBytesPerBox * static_cast<size_t>(size) + kFewBytes; }

// Segments that one thread should take at least: half of the pairs are looked at, several in a nanosecond; with a grid as
// many for each box as without one in the smallest segment that has a grid.
int64_t segments_per_task(const Segments& segments) {
  const int64_t num_segments = static_cast<int64_t>(segments.starts.size()) - 1;
  double nanoseconds = 1.0;
  for (int64_t s = 0; s < num_segments; ++s) {
    const int64_t size = segments.starts[s + 1] - segments.starts[s];
    nanoseconds += static_cast<double>(size) * static_cast<double>(std::min(size, kManyBoxes)) / 8.0;
  }
  const double share = std::min(1.0, static_cast<double>(kMinTaskNanoseconds) / nanoseconds);
  return std::max<int64_t>(1, static_cast<int64_t>(share * static_cast<double>(num_segments)));
}

int64_t nms_of_one_group(const float* boxes, const ScoreOrder& order, float threshold, int64_t max_output,
                         int64_t* kept, Arena& arena) {
  const NmsSegment segment = columns_of(order.size(), [&](int64_t i) { return boxes + order[i] * 4; }, arena);
  int64_t* const positions = arena.take<int64_t>(segment.size);
  const int64_t count = suppress(segment, threshold, std::min(max_output, segment.size), positions, arena);
  for (int64_t i = 0; i < count; ++i) kept[i] = order[positions[i]];
  return count;
}

int64_t nms_of_groups(const float* boxes, const ScoreOrder& order, const int64_t* groups, float threshold,
                      int64_t max_output, int64_t* kept, ParallelRunner run) {
  const Segments segments = split_by_group(order, groups);
  const int64_t num_segments = static_cast<int64_t>(segments.starts.size()) - 1;
  // uint8_t, not vector<bool>: threads write neighbours.
  std::vector<uint8_t> is_kept(order.size(), 0);
  parallel_for(run, num_segments, segments_per_task(segments), [&](int64_t begin, int64_t end) {
    int64_t largest = 0;
    for (int64_t s = begin; s < end; ++s) largest = std::max(largest, segments.starts[s + 1] - segments.starts[s]);
    std::vector<int64_t> positions(largest);
    Arena arena(about_bytes(largest));
    for (int64_t s = begin; s < end; ++s) {
      arena.clear();
      const int64_t* ranks = segments.ranks.data() + segments.starts[s];
      const int64_t size = segments.starts[s + 1] - segments.starts[s];
      const NmsSegment segment = columns_of(size, [&](int64_t i) { return boxes + order[ranks[i]] * 4; }, arena);
      const int64_t count = suppress(segment, threshold, std::min(max_output, size), positions.data(), arena);
      for (int64_t i = 0; i < count; ++i) is_kept[ranks[positions[i]]] = 1;
    }
  });
  int64_t count = 0;
  for (int64_t rank = 0; rank < order.size() && count < max_output; ++rank) {
    if (is_kept[rank]) kept[count++] = order[rank];
  }
  return count;
}

int64_t nms_image(const float* boxes, const float* scores, const int64_t* groups, const bool* valid, int64_t size,
                  float threshold, int64_t max_output, int64_t* kept, ParallelRunner run) {
  Arena arena(about_bytes(size));
  const ScoreOrder order(scores, valid, size, arena);
  if (order.size() == 0 || max_output == 0) return 0;
  if (groups == nullptr) return nms_of_one_group(boxes, order, threshold, max_output, kept, arena);
  return nms_of_groups(boxes, order, groups, threshold, max_output, kept, run);
}

}  // namespace

void nms_cpu(const NmsInput& input, int64_t max_output, int64_t* kept, int64_t* counts, ParallelRunner run) {
  for (int64_t b = 0; b < input.batch; ++b) {
    const int64_t at = b * input.size;
    int64_t* out = kept + b * max_output;
    counts[b] = nms_image(input.boxes + at * 4, input.scores + at, input.groups ? input.groups + at : nullptr,
                          input.valid ? input.valid + at : nullptr, input.size, input.threshold, max_output, out, run);
    std::fill(out + counts[b], out + max_output, int64_t{0});
  }
}

}  // namespace fastdet
