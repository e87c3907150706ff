// One row of a pasted mask. Included by loops.inl.

namespace fastdet {
inline namespace FASTDET_ISA {

// out[i] = whether upper_weight * upper[i] + lower_weight * lower[i] reaches the threshold. The rows hold whole vectors.
inline void paste_row(const float* upper, const float* lower, float upper_weight, float lower_weight, float threshold,
                      int64_t count, uint8_t* out) {
  using F = vector_t<float>;
  constexpr int64_t lanes = kLanes<float>;
  typedef uint8_t Bytes __attribute__((vector_size(lanes)));
  const F first = splat(upper_weight), second = splat(lower_weight), limit = splat(threshold);
  for (int64_t i = 0; i < count; i += lanes) {
    const F value = multiply_add(first, load(upper + i), second * load(lower + i));
    const Bytes bytes = __builtin_convertvector((value >= limit) & 1, Bytes);
    std::memcpy(out + i, &bytes, static_cast<size_t>(count - i < lanes ? count - i : lanes));
  }
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
