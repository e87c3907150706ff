// NMS on the CPU: sort by score, split by group, then one vectorised pass per kept box, over all boxes of its group or,
// where those are many, over those in its part of a grid.
#include "nms.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "boxes.h"
#include "cpu_kernels.h"
#include "segments.h"

namespace fastdet {
namespace {

// Stable ascending sort by the high half of each item.
void sort_by_high_half(std::vector<uint64_t>& items) {
  constexpr size_t kFewItems = 256;
  if (items.size() < kFewItems) {
    std::sort(items.begin(), items.end());  // the low halves are the indices, which ascend
    return;
  }
  constexpr int kDigitBits = 11;
  constexpr int kPasses = 3;
  constexpr uint64_t kDigits = uint64_t{1} << kDigitBits;
  const auto digit = [](uint64_t item, int pass) { return (item >> (32 + pass * kDigitBits)) & (kDigits - 1); };
  std::vector<uint32_t> places(kPasses * kDigits);
  for (const uint64_t item : items) {
    for (int pass = 0; pass < kPasses; ++pass) ++places[pass * kDigits + digit(item, pass)];
  }
  std::vector<uint64_t> sorted(items.size());
  for (int pass = 0; pass < kPasses; ++pass) {
    uint32_t* place = places.data() + pass * kDigits;
    if (place[digit(items[0], pass)] == items.size()) continue;
    uint32_t total = 0;
    for (uint64_t d = 0; d < kDigits; ++d) {
      const uint32_t count = place[d];
      place[d] = total;
      total += count;
    }
    for (const uint64_t item : items) sorted[place[digit(item, pass)]++] = item;
    items.swap(sorted);
  }
}

// Indices of the valid boxes by descending score.
std::vector<int64_t> score_order(const float* scores, const bool* valid, int64_t size) {
  std::vector<uint64_t> items;
  items.reserve(size);
  for (int64_t i = 0; i < size; ++i) {
    if (valid == nullptr || valid[i]) {
      items.push_back(static_cast<uint64_t>(score_key(scores[i])) << 32 | static_cast<uint64_t>(i));
    }
  }
  sort_by_high_half(items);
  std::vector<int64_t> order(items.size());
  for (size_t i = 0; i < items.size(); ++i) order[i] = static_cast<int64_t>(items[i] & 0xFFFFFFFFu);
  return order;
}

// One array per coordinate, with each segment padded to kNmsPadding.
class Columns {
 public:
  Columns(const float* boxes, const std::vector<int64_t>& order, const Segments& segments) : segments_(segments) {
    const size_t num_segments = segments.starts.size() - 1;
    offsets_.resize(num_segments);
    int64_t total = 0;
    for (size_t s = 0; s < num_segments; ++s) {
      offsets_[s] = total;
      const int64_t size = segments.starts[s + 1] - segments.starts[s];
      total += (size + kNmsPadding - 1) / kNmsPadding * kNmsPadding;
    }
    for (std::vector<float>& column : columns_) column.resize(total);
    dead_.resize(total);
    places_.resize(total);
    for (size_t s = 0; s < num_segments; ++s) {
      int64_t to = offsets_[s];
      for (int64_t i = segments.starts[s]; i < segments.starts[s + 1]; ++i, ++to) {
        const float* box = boxes + order[segments.ranks[i]] * 4;
        for (int k = 0; k < 4; ++k) columns_[k][to] = box[k];
        columns_[4][to] = box_area(box[0], box[1], box[2], box[3]);
        places_[to] = i - segments.starts[s];
      }
    }
  }

  NmsSegment segment(int64_t index) {
    const int64_t at = offsets_[index];
    return {&columns_[0][at],
            &columns_[1][at],
            &columns_[2][at],
            &columns_[3][at],
            &columns_[4][at],
            &places_[at],
            &dead_[at],
            segments_.starts[index + 1] - segments_.starts[index]};
  }

 private:
  const Segments& segments_;
  std::array<std::vector<float>, 5> columns_;
  std::vector<int64_t> places_;
  std::vector<int32_t> dead_;
  std::vector<int64_t> offsets_;
};

constexpr int64_t kManyBoxes = 512;  // from here on a grid is worth its making

// The arrays of a grid, which the kernel fills.
class GridArrays {
 public:
  explicit GridArrays(int64_t size) {
    constexpr double kBoxesPerRow = 16.0;  // squared: of as many boxes, the grid has a row
    constexpr int32_t kColumnsPerRow = 4, kMaxRows = 256;
    const int64_t padded = (size + kNmsPadding - 1) / kNmsPadding * kNmsPadding, sorted = size + kNmsPadding;
    const int32_t rows = std::min(kMaxRows, static_cast<int32_t>(std::sqrt(static_cast<double>(size) / kBoxesPerRow)));
    const int32_t columns = kColumnsPerRow * rows;
    starts_.resize(rows * columns + 3);
    numbers_.resize(6 * padded);
    coordinates_.resize(5 * sorted);
    dead_.resize(sorted);
    const auto number = [&](int64_t array) { return numbers_.data() + array * padded; };
    const auto coordinate = [&](int64_t array) { return coordinates_.data() + array * sorted; };
    grid_ = {rows,           columns,   number(0), number(1), number(2), number(3), number(4), number(5),
             starts_.data(), {coordinate(0), coordinate(1), coordinate(2), coordinate(3), coordinate(4), nullptr,
                              dead_.data(), size}};
  }

  const NmsGrid& grid() const { return grid_; }

 private:
  std::vector<int32_t> starts_, numbers_, dead_;
  std::vector<float> coordinates_;
  NmsGrid grid_;
};

int64_t suppress(const NmsSegment& segment, float threshold, int64_t max_output, int64_t* kept) {
  const CpuKernels& kernels = cpu_kernels();
  constexpr int64_t kMostPlaces = std::numeric_limits<int32_t>::max() - kNmsPadding;
  if (segment.size < kManyBoxes || segment.size > kMostPlaces) return kernels.nms_segment(segment, threshold, max_output, kept);
  const GridArrays arrays(segment.size);
  return kernels.nms_in_grid(segment, arrays.grid(), threshold, max_output, kept);
}

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

int64_t nms_image(const float* boxes, const float* scores, const int64_t* groups, const bool* valid, int64_t size,
                  float threshold, int64_t max_output, int64_t* kept, ParallelRunner run) {
  const std::vector<int64_t> order = score_order(scores, valid, size);
  if (order.empty() || max_output == 0) return 0;
  const Segments segments = split_by_group(order, groups);
  const int64_t num_segments = static_cast<int64_t>(segments.starts.size()) - 1;
  Columns columns(boxes, order, segments);
  // uint8_t, not vector<bool>: threads write neighbours.
  std::vector<uint8_t> is_kept(order.size(), 0);
  parallel_for(run, num_segments, segments_per_task(segments), [&](int64_t begin, int64_t end) {
    std::vector<int64_t> positions;
    for (int64_t s = begin; s < end; ++s) {
      const NmsSegment segment = columns.segment(s);
      positions.resize(segment.size);
      const int64_t limit = std::min(max_output, segment.size);
      const int64_t count = suppress(segment, threshold, limit, positions.data());
      for (int64_t i = 0; i < count; ++i) is_kept[segments.ranks[segments.starts[s] + positions[i]]] = 1;
    }
  });
  int64_t count = 0;
  for (size_t rank = 0; rank < order.size() && count < max_output; ++rank) {
    if (is_kept[rank]) kept[count++] = order[rank];
  }
  return count;
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
