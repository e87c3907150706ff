// Greedy NMS of one group: of few boxes by comparing all, of many through a grid. Included by loops.inl.

namespace fastdet {
inline namespace FASTDET_ISA {

// Moves the boxes of [from, size) that live to its front, in order; returns the new size.
inline int64_t drop_dead(const NmsSegment& segment, int64_t from, int64_t size) {
  const NmsSegment s = segment;  // a copy, whose pointers stay in registers
  int64_t to = from;
  for (int64_t j = from; j < size; ++j) {  // every box is moved and only a living one kept: no branch to guess
    const int64_t lives = s.dead[j] == 0;
    s.x1[to] = s.x1[j];
    s.y1[to] = s.y1[j];
    s.x2[to] = s.x2[j];
    s.y2[to] = s.y2[j];
    s.area[to] = s.area[j];
    s.place[to] = s.place[j];
    s.dead[to] = 0;
    to += lives;
  }
  return to;
}

inline int64_t nms_segment(const NmsSegment& s, float threshold, int64_t max_output, int64_t* kept) {
  using F = vector_t<float>;
  constexpr int64_t lanes = kLanes<float>;
  constexpr int64_t kKeptBetweenDrops = 16;
  constexpr int64_t kFewBoxes = 8 * lanes;
  static_assert(kNmsPadding % lanes == 0, "segments are padded for the widest vector");
  const F limit = splat(threshold);
  int64_t count = 0;
  int64_t size = s.size;
  for (int64_t i = 0; i < size && count < max_output; ++i) {
    if (s.dead[i] != 0) continue;
    kept[count++] = s.place[i];
    const F x1 = splat(s.x1[i]), y1 = splat(s.y1[i]), x2 = splat(s.x2[i]), y2 = splat(s.y2[i]), area = splat(s.area[i]);
    // Lanes at or before i in the first vector are decided already: what is written there is never read.
    for (int64_t j = i / lanes * lanes; j < size; j += lanes) {
      const F inter = intersection(x1, y1, x2, y2, load(s.x1 + j), load(s.y1 + j), load(s.x2 + j), load(s.y2 + j));
      store(s.dead + j, load(s.dead + j) | iou_exceeds(inter, area, load(s.area + j), limit));
    }
    if (count % kKeptBetweenDrops != 0 || size - i < kFewBoxes) continue;
    int64_t dead = 0;
    for (int64_t j = i + 1; j < size; ++j) dead -= s.dead[j];
    if (dead > (size - i) / 4) size = drop_dead(s, i + 1, size);
  }
  return count;
}

// A box that has a size and a place; all others (empty, inverted, endless, NaN) suppress nothing and are never
// suppressed.
inline auto takes_part(vector_t<float> area) { return (area > splat(0.0f)) & (area <= splat(__FLT_MAX__)); }

// What the boxes of a segment that take part cover.
struct NmsExtent {
  float low_x, high_x, low_y, high_y;  // of the middles
  float width, height;                 // the largest
  float area;                          // the smallest
};

inline float middle(float low, float high) { return 0.5f * low + 0.5f * high; }

inline vector_t<float> middle(vector_t<float> low, vector_t<float> high) {
  return splat(0.5f) * low + splat(0.5f) * high;
}

inline float largest_lane(vector_t<float> value) {
  float most = value[0];
  for (int lane = 1; lane < kLanes<float>; ++lane) most = value[lane] > most ? value[lane] : most;
  return most;
}

inline NmsExtent extent_of(const NmsSegment& s) {
  using F = vector_t<float>;
  const F none = splat(-__FLT_MAX__);
  F high_x = none, high_y = none, less_x = none, less_y = none, width = none, height = none, less_area = none;
  for (int64_t j = 0; j < s.size; j += kLanes<float>) {
    const F x1 = load(s.x1 + j), y1 = load(s.y1 + j), x2 = load(s.x2 + j), y2 = load(s.y2 + j), area = load(s.area + j);
    const F x = middle(x1, x2), y = middle(y1, y2);
    const auto counts = takes_part(area);
    high_x = larger(counts ? x : none, high_x);
    high_y = larger(counts ? y : none, high_y);
    less_x = larger(counts ? -x : none, less_x);
    less_y = larger(counts ? -y : none, less_y);
    width = larger(counts ? x2 - x1 : none, width);
    height = larger(counts ? y2 - y1 : none, height);
    less_area = larger(counts ? -area : none, less_area);
  }
  return {-largest_lane(less_x), largest_lane(high_x), -largest_lane(less_y), largest_lane(high_y),
          largest_lane(width),   largest_lane(height), -largest_lane(less_area)};
}

// One axis of the grid: middles become cells, and a box of some width looks for others `reach` of it away.
struct NmsAxis {
  float low;
  float cells_per_pixel;
  float last_cell;
  float reach;      // how far, as a share of the box's own width,
  float most;       // but never further than half of it and half of the widest box's
  float tolerance;  // pixels; for what rounding does to middles
};

inline vector_t<int32_t> cell_at(const NmsAxis& axis, vector_t<float> position) {
  const vector_t<float> cell = (position - splat(axis.low)) * splat(axis.cells_per_pixel);
  return __builtin_convertvector(smaller(larger(cell, splat(0.0f)), splat(axis.last_cell)), vector_t<int32_t>);
}

inline vector_t<float> reach_of(const NmsAxis& axis, vector_t<float> width) {
  return smaller(width * splat(axis.reach), splat(0.500005f) * width + splat(axis.most)) + splat(axis.tolerance);
}

// Boxes of widths a and b whose middles lie d apart overlap by at most (a + b) / 2 - d along this axis, and their IoU is
// at most that over what both cover, (a + b) / 2 + d. An IoU above t thus needs d < (a + b) / 2 * (1 - t) / (1 + t), and
// because it also needs b < a / t, d < a (1 - t) / 2t. Where products of sizes lose digits only d < (a + b) / 2 is sure.
inline NmsAxis axis_of(float low, float high, float widest, int32_t cells, float threshold, float smallest_area) {
  constexpr float kExactArea = 1e-30f, kSmallestExtent = 1e-20f, kRounding = 1e-5f, kEpsilons = 1e-6f;
  const float size = high - low;
  const float magnitude = (high > -low ? high : -low) + widest;
  const bool exact = threshold > 0.0f && smallest_area > kExactArea;
  const float reach = (1.0f - threshold) / (2.0f * threshold) * (1.0f + kRounding) + kRounding;
  return {low,
          size > kSmallestExtent ? static_cast<float>(cells) / size : 0.0f,
          static_cast<float>(cells - 1),
          exact ? reach : __builtin_inff(),
          0.500005f * widest,
          kEpsilons * magnitude};
}

// Finds the cells of the boxes and those in which each looks for others; false for coordinates too large to place.
inline bool place_in_grid(const NmsSegment& s, const NmsGrid& grid, float threshold) {
  using I = vector_t<int32_t>;
  constexpr float kLargestSize = 1e18f;
  const NmsExtent extent = extent_of(s);
  if (!(extent.width < kLargestSize && extent.height < kLargestSize && extent.high_x < kLargestSize &&
        extent.high_y < kLargestSize && extent.low_x > -kLargestSize && extent.low_y > -kLargestSize)) {
    return false;
  }
  const NmsAxis axis_x = axis_of(extent.low_x, extent.high_x, extent.width, grid.columns, threshold, extent.area);
  const NmsAxis axis_y = axis_of(extent.low_y, extent.high_y, extent.height, grid.rows, threshold, extent.area);
  for (int64_t j = 0; j < s.size; j += kLanes<float>) {
    const auto x1 = load(s.x1 + j), y1 = load(s.y1 + j), x2 = load(s.x2 + j), y2 = load(s.y2 + j);
    const auto x = middle(x1, x2), y = middle(y1, y2), dx = reach_of(axis_x, x2 - x1), dy = reach_of(axis_y, y2 - y1);
    const I cell = cell_at(axis_y, y) * grid.columns + cell_at(axis_x, x);
    store<int32_t>(grid.cell + j, takes_part(load(s.area + j)) ? cell : I{} + grid.rows * grid.columns);
    store<int32_t>(grid.left + j, cell_at(axis_x, x - dx));
    store<int32_t>(grid.right + j, cell_at(axis_x, x + dx));
    store<int32_t>(grid.upper + j, cell_at(axis_y, y - dy));
    store<int32_t>(grid.lower + j, cell_at(axis_y, y + dy));
  }
  return true;
}

// Sorts the boxes by cell. Afterwards cell c holds the boxes [starts[c], starts[c + 1]).
inline void sort_into_grid(const NmsSegment& segment, const NmsGrid& grid) {
  const NmsSegment s = segment, boxes = grid.boxes;
  int32_t* const starts = grid.starts;
  const int32_t cells = grid.rows * grid.columns + 1;
  for (int64_t j = 0; j < s.size; ++j) ++starts[grid.cell[j] + 2];
  for (int32_t c = 2; c <= cells; ++c) starts[c] += starts[c - 1];
  for (int64_t j = 0; j < s.size; ++j) {
    const int32_t to = starts[grid.cell[j] + 1]++;
    boxes.x1[to] = s.x1[j];
    boxes.y1[to] = s.y1[j];
    boxes.x2[to] = s.x2[j];
    boxes.y2[to] = s.y2[j];
    boxes.area[to] = s.area[j];
    grid.position[j] = to;
  }
}

// A kept box meets those of the cells in its reach only, in any order: one that it suppresses comes later or is
// suppressed already, for else the two would have met before and this one would not be kept.
inline int64_t nms_in_grid(const NmsSegment& segment, const NmsGrid& grid, float threshold, int64_t max_output,
                           int64_t* kept) {
  using F = vector_t<float>;
  constexpr int64_t lanes = kLanes<float>;
  if (!place_in_grid(segment, grid, threshold)) return nms_segment(segment, threshold, max_output, kept);
  sort_into_grid(segment, grid);
  const NmsSegment s = grid.boxes;
  const F limit = splat(threshold);
  int64_t count = 0;
  for (int64_t i = 0; i < segment.size && count < max_output; ++i) {
    const int64_t at = grid.position[i];
    if (s.dead[at] != 0) continue;
    kept[count++] = segment.place[i];
    if (grid.cell[i] == grid.rows * grid.columns) continue;
    const F x1 = splat(s.x1[at]), y1 = splat(s.y1[at]), x2 = splat(s.x2[at]), y2 = splat(s.y2[at]);
    const F area = splat(s.area[at]);
    const int64_t left = grid.left[i], behind = grid.right[i] + 1;
    for (int64_t row = grid.upper[i]; row <= grid.lower[i]; ++row) {
      const int32_t* starts = grid.starts + row * grid.columns;
      // What lies behind the last cell in the same vector is met too, which changes nothing.
      for (int64_t j = starts[left], end = starts[behind]; j < end; j += lanes) {
        const F inter = intersection(x1, y1, x2, y2, load(s.x1 + j), load(s.y1 + j), load(s.x2 + j), load(s.y2 + j));
        store<int32_t>(s.dead + j, load(s.dead + j) | iou_exceeds(inter, area, load(s.area + j), limit));
      }
    }
  }
  return count;
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
