// Samples of deformable attention: where they lie, their weighted sums and gradients. Included by loops.inl.

namespace fastdet {
inline namespace FASTDET_ISA {

template <typename A>
inline void store_integers(integer_t<A>* to, mask_t<A> value) {
  std::memcpy(to, &value, sizeof(value));
}

// A vector of samples at a time. Weights are those of the cells times those of the attention, 0 for cells outside.
template <typename A>
inline void locate_samples(const A* locations, const A* attention, const AttentionGrid<A>& grid,
                           const AttentionTaps<A>& taps) {
  using V = vector_t<A>;
  using I = mask_t<A>;
  constexpr int64_t lanes = kLanes<A>;
  const V zero{}, one = splat(A(1)), half = splat(A(0.5));
  const I no_cell{}, one_cell = no_cell + 1;
  for (int64_t i = 0; i < grid.size; i += lanes) {
    A pairs[2 * lanes] = {}, factors[lanes] = {}, columns[lanes], rows[lanes];
    const int64_t count = grid.size - i < lanes ? grid.size - i : lanes;
    if (count == lanes) {
      std::memcpy(pairs, locations + 2 * i, sizeof(pairs));
      std::memcpy(factors, attention + i, sizeof(factors));
    } else {
      std::memcpy(pairs, locations + 2 * i, 2 * count * sizeof(A));
      std::memcpy(factors, attention + i, count * sizeof(A));
    }
    for (int64_t j = 0; j < lanes; ++j) {
      columns[j] = pairs[2 * j];
      rows[j] = pairs[2 * j + 1];
    }
    const V width = load(grid.width + i), height = load(grid.height + i);
    V x = load(columns) * width - half, y = load(rows) * height - half;
    const I inside = (x > -one) & (x < width) & (y > -one) & (y < height);
    x = inside ? x : zero;
    y = inside ? y : zero;
    // Truncated, and one less where that rounded up: the floor.
    I x_cell = __builtin_convertvector(x, I), y_cell = __builtin_convertvector(y, I);
    x_cell += x < __builtin_convertvector(x_cell, V);
    y_cell += y < __builtin_convertvector(y_cell, V);
    const V x_floor = __builtin_convertvector(x_cell, V), y_floor = __builtin_convertvector(y_cell, V);
    const V x_fraction = x - x_floor, y_fraction = y - y_floor;
    const I left = inside & (x_cell >= no_cell), right = inside & (x_floor + one < width);
    const I upper = inside & (y_cell >= no_cell), lower = inside & (y_floor + one < height);
    const V weight = load(factors);
    const V left_weight = left ? one - x_fraction : zero, right_weight = right ? x_fraction : zero;
    const V upper_weight = upper ? (one - y_fraction) * weight : zero, lower_weight = lower ? y_fraction * weight : zero;
    I start, columns_of_level;
    std::memcpy(&start, grid.start + i, sizeof(start));
    columns_of_level = __builtin_convertvector(width, I);
    // Cells outside of the map have no weight; the cell beside them is read in their place.
    const I upper_row = start + (y_cell & upper) * columns_of_level;
    const I lower_row = start + (lower ? y_cell + one_cell : y_cell & upper) * columns_of_level;
    const I left_cell = x_cell & left, right_cell = right ? x_cell + one_cell : left_cell;
    store_integers<A>(taps.cell[0] + i, upper_row + left_cell);
    store_integers<A>(taps.cell[1] + i, upper_row + right_cell);
    store_integers<A>(taps.cell[2] + i, lower_row + left_cell);
    store_integers<A>(taps.cell[3] + i, lower_row + right_cell);
    store<A>(taps.weight[0] + i, upper_weight * left_weight);
    store<A>(taps.weight[1] + i, upper_weight * right_weight);
    store<A>(taps.weight[2] + i, lower_weight * left_weight);
    store<A>(taps.weight[3] + i, lower_weight * right_weight);
    store<A>(taps.x_fraction + i, x_fraction);
    store<A>(taps.y_fraction + i, y_fraction);
    store_integers<A>(taps.sides + i, (left & kLeftSide) | (right & kRightSide) | (upper & kUpperSide) |
                                          (lower & kLowerSide));
  }
}

// `kVectors` vectors of channels, summed over the samples [begin, end).
template <int kVectors, typename T, typename A>
inline void attend(const T* value, int64_t cell_stride, const AttentionTaps<A>& taps, int64_t begin, int64_t end,
                   T* out) {
  using V = vector_t<A>;
  V sums[kVectors] = {};
  for (int64_t i = begin; i < end; ++i) {
    if (taps.sides[i] == 0) continue;
    for (int corner = 0; corner < 4; ++corner) {
      const T* cell = value + taps.cell[corner][i] * cell_stride;
      const V weight = splat(taps.weight[corner][i]);
      for (int v = 0; v < kVectors; ++v) {
        sums[v] = multiply_add(weight, V(load(cell + v * kLanes<A>)), sums[v]);
      }
    }
  }
  for (int v = 0; v < kVectors; ++v) store<T>(out + v * kLanes<A>, sums[v]);
}

// out[c] for the channels of one head; `value` points to the head's channels in cell 0.
template <typename T>
inline void attend_samples(const T* value, int64_t cell_stride, int64_t channels,
                           const AttentionTaps<accumulator_t<T>>& taps, int64_t begin, int64_t end, T* out) {
  using A = accumulator_t<T>;
  constexpr int64_t lanes = kLanes<A>;
  int64_t c = 0;
  for (; c + 4 * lanes <= channels; c += 4 * lanes) attend<4>(value + c, cell_stride, taps, begin, end, out + c);
  for (; c + 2 * lanes <= channels; c += 2 * lanes) attend<2>(value + c, cell_stride, taps, begin, end, out + c);
  for (; c + lanes <= channels; c += lanes) attend<1>(value + c, cell_stride, taps, begin, end, out + c);
  for (; c < channels; ++c) {
    A sum = A(0);
    for (int64_t i = begin; i < end; ++i) {
      for (int corner = 0; taps.sides[i] != 0 && corner < 4; ++corner) {
        sum += taps.weight[corner][i] * widen(value[taps.cell[corner][i] * cell_stride + c]);
      }
    }
    out[c] = narrow<T>(sum);
  }
}

// Cells lie anywhere: those of the gradient, which are written, are asked for some samples before their turn.
constexpr int64_t kSamplesAhead = 2;
constexpr int64_t kCacheLineBytes = 64;

template <typename T>
inline void prefetch_cells(const T* value, const accumulator_t<T>* value_gradient, int64_t cell_stride,
                           int64_t channels, const AttentionTaps<accumulator_t<T>>& taps, int64_t sample) {
  constexpr int64_t step = kCacheLineBytes / static_cast<int64_t>(sizeof(accumulator_t<T>));
  for (int corner = 0; corner < 4; ++corner) {
    const int64_t at = taps.cell[corner][sample] * cell_stride;
    for (int64_t c = 0; c < channels; c += step) {
      __builtin_prefetch(value + at + c);
      __builtin_prefetch(value_gradient + at + c, 1);
    }
  }
}

// `kVectors` vectors of channels of one sample, which `gradient` points to; adds to the products of its four cells.
template <int kVectors, typename T, typename A>
inline void scatter(const T* value, A* value_gradient, int64_t cell_stride, const AttentionTaps<A>& taps,
                    int64_t sample, const A* gradient, vector_t<A> dots[4]) {
  using V = vector_t<A>;
  V slope[kVectors];
  for (int v = 0; v < kVectors; ++v) slope[v] = load(gradient + v * kLanes<A>);
  for (int corner = 0; corner < 4; ++corner) {
    const int64_t at = taps.cell[corner][sample] * cell_stride;
    const V weight = splat(taps.weight[corner][sample]);
    for (int v = 0; v < kVectors; ++v) {
      A* const cell_gradient = value_gradient + at + v * kLanes<A>;
      dots[corner] = multiply_add(slope[v], V(load(value + at + v * kLanes<A>)), dots[corner]);
      store<A>(cell_gradient, multiply_add(weight, slope[v], load(cell_gradient)));
    }
  }
}

// Adds to the gradient of the values, and gives each sample's products of the gradient with its four cells.
template <typename T>
inline void scatter_samples(const T* value, accumulator_t<T>* value_gradient, int64_t cell_stride, int64_t channels,
                            const AttentionTaps<accumulator_t<T>>& taps, int64_t size, const accumulator_t<T>* gradient,
                            accumulator_t<T>* const dots[4]) {
  using A = accumulator_t<T>;
  constexpr int64_t lanes = kLanes<A>;
  for (int64_t i = 0; i < size; ++i) {
    if (i + kSamplesAhead < size) {
      prefetch_cells(value, value_gradient, cell_stride, channels, taps, i + kSamplesAhead);
    }
    if (taps.sides[i] == 0) {
      for (int corner = 0; corner < 4; ++corner) dots[corner][i] = A(0);
      continue;
    }
    vector_t<A> products[4] = {};
    int64_t c = 0;
    for (; c + 2 * lanes <= channels; c += 2 * lanes) {
      scatter<2>(value + c, value_gradient + c, cell_stride, taps, i, gradient + c, products);
    }
    for (; c + lanes <= channels; c += lanes) {
      scatter<1>(value + c, value_gradient + c, cell_stride, taps, i, gradient + c, products);
    }
    for (int corner = 0; corner < 4; ++corner) {
      const int64_t at = taps.cell[corner][i] * cell_stride;
      A sum = sum_of_lanes<A>(products[corner]);
      for (int64_t k = c; k < channels; ++k) {
        sum += gradient[k] * widen(value[at + k]);
        value_gradient[at + k] += taps.weight[corner][i] * gradient[k];
      }
      dots[corner][i] = sum;
    }
  }
}

// The gradients of locations and weights from those products, a vector of samples at a time.
template <typename A>
inline void sample_slopes(const AttentionGrid<A>& grid, const AttentionTaps<A>& taps, const A* attention,
                          const A* const dots[4], A* location_gradient, A* attention_gradient) {
  using V = vector_t<A>;
  using I = mask_t<A>;
  constexpr int64_t lanes = kLanes<A>;
  const V zero{}, one = splat(A(1));
  const I none{};
  for (int64_t i = 0; i < grid.size; i += lanes) {
    const int64_t count = grid.size - i < lanes ? grid.size - i : lanes;
    A factors[lanes] = {};
    std::memcpy(factors, attention + i, count * sizeof(A));
    I sides;
    std::memcpy(&sides, taps.sides + i, sizeof(sides));
    const I left = (sides & kLeftSide) != none, right = (sides & kRightSide) != none;
    const I upper = (sides & kUpperSide) != none, lower = (sides & kLowerSide) != none;
    const V upper_left = left & upper ? load(dots[0] + i) : zero, upper_right = right & upper ? load(dots[1] + i) : zero;
    const V lower_left = left & lower ? load(dots[2] + i) : zero, lower_right = right & lower ? load(dots[3] + i) : zero;
    const V x = load(taps.x_fraction + i), y = load(taps.y_fraction + i), weight = load(factors);
    const V above = (one - x) * upper_left + x * upper_right, below = (one - x) * lower_left + x * lower_right;
    const V x_slope = (one - y) * (upper_right - upper_left) + y * (lower_right - lower_left);
    A value[lanes], of_x[lanes], of_y[lanes];
    store<A>(value, (one - y) * above + y * below);
    store<A>(of_x, weight * load(grid.width + i) * x_slope);
    store<A>(of_y, weight * load(grid.height + i) * (below - above));
    for (int64_t j = 0; j < count; ++j) {
      attention_gradient[i + j] = value[j];
      location_gradient[2 * (i + j)] = of_x[j];
      location_gradient[2 * (i + j) + 1] = of_y[j];
    }
  }
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
