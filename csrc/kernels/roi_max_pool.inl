// One sample of a bin for all channels. Included by loops.inl.

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

}  // namespace FASTDET_ISA
}  // namespace fastdet
