// One sample or all cells of a bin for all channels. Included by loops.inl.

namespace fastdet {
inline namespace FASTDET_ISA {

// Raises best[c] and sets chosen[c] to `number` where the sample is larger, or everywhere if it is the first.
template <typename T>
inline void raise_maximum(const T* image, const SampleTaps<accumulator_t<T>>& taps, int64_t channels, int32_t number,
                          bool first, accumulator_t<T>* best, int32_t* chosen) {
  using A = accumulator_t<T>;
  int64_t c = 0;
  if constexpr (sizeof(A) == sizeof(int32_t)) {
    using V = vector_t<A>;
    using I = vector_t<int32_t>;
    for (; c + kLanes<A> <= channels; c += kLanes<A>) {
      V value{};
      for (int t = 0; t < taps.count; ++t) {
        value = multiply_add(splat(taps.weight[t]), V(load(image + taps.offset[t] + c)), value);
      }
      const V before = load(best + c);
      const auto larger_now = value > before;
      store<A>(best + c, first ? value : (larger_now ? value : before));
      store<int32_t>(chosen + c, first ? I{} + number : (larger_now ? I{} + number : load(chosen + c)));
    }
  }
  for (; c < channels; ++c) {
    A value = A(0);
    for (int t = 0; t < taps.count; ++t) value += taps.weight[t] * widen(image[taps.offset[t] + c]);
    if (!first && !(value > best[c])) continue;
    best[c] = value;
    chosen[c] = number;
  }
}

// `kVectors` vectors of channels; the largest so far stays in registers.
template <int kVectors, typename T>
inline void largest_cell_of_vectors(const T* cells, const CellRectangle& rectangle, T* largest, int32_t* number) {
  using V = vector_t<float>;
  using I = vector_t<int32_t>;
  constexpr int lanes = kLanes<float>;
  V best[kVectors];
  I found[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    best[v] = load(cells + v * lanes);
    found[v] = I{} + rectangle.number;
  }
  for (int64_t y = 0; y < rectangle.rows; ++y) {
    const T* cell = cells + y * rectangle.stride_y;
    I here = I{} + (rectangle.number + static_cast<int32_t>(y) * rectangle.width);
    for (int64_t x = 0; x < rectangle.columns; ++x, cell += rectangle.stride_x, here += 1) {
      for (int v = 0; v < kVectors; ++v) {
        const V value = load(cell + v * lanes);
        const auto is_larger = value > best[v];
        best[v] = is_larger ? value : best[v];
        found[v] = is_larger ? here : found[v];
      }
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    store<T>(largest + v * lanes, best[v]);
    store<int32_t>(number + v * lanes, found[v]);
  }
}

template <typename T>
inline void largest_cell(const T* cells, const CellRectangle& rectangle, int64_t channels, T* largest,
                         int32_t* number) {
  using A = accumulator_t<T>;
  int64_t c = 0;
  if constexpr (sizeof(A) == sizeof(int32_t)) {
    constexpr int64_t lanes = kLanes<A>;
    for (; c + 4 * lanes <= channels; c += 4 * lanes) {
      largest_cell_of_vectors<4>(cells + c, rectangle, largest + c, number + c);
    }
    for (; c + lanes <= channels; c += lanes) {
      largest_cell_of_vectors<1>(cells + c, rectangle, largest + c, number + c);
    }
  }
  for (; c < channels; ++c) {
    A best = widen(cells[c]);
    int32_t found = rectangle.number;
    for (int64_t y = 0; y < rectangle.rows; ++y) {
      for (int64_t x = 0; x < rectangle.columns; ++x) {
        const A value = widen(cells[c + y * rectangle.stride_y + x * rectangle.stride_x]);
        const bool is_larger = value > best;
        best = is_larger ? value : best;
        found = is_larger ? rectangle.number + static_cast<int32_t>(y * rectangle.width + x) : found;
      }
    }
    largest[c] = narrow<T>(best);
    number[c] = found;
  }
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
