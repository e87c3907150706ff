// The search for large values in a long row. Included by loops.inl.

namespace fastdet {
inline namespace FASTDET_ISA {

// Bit i says whether lane i of `values` is above the bound; false for NaN.
#if FASTDET_VECTOR_BYTES == 64
inline unsigned lanes_above(vector_t<float> values, vector_t<float> bound) {
  return _mm512_cmp_ps_mask(values, bound, _CMP_GT_OQ);
}
#elif FASTDET_VECTOR_BYTES == 32
inline unsigned lanes_above(vector_t<float> values, vector_t<float> bound) {
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(values, bound, _CMP_GT_OQ)));
}
#else
inline unsigned lanes_above(vector_t<float> values, vector_t<float> bound) {
  const auto above = values > bound;
  uint64_t halves[2];
  std::memcpy(halves, &above, sizeof(halves));
  if ((halves[0] | halves[1]) == 0) return 0;
  unsigned bits = 0;
  for (int lane = 0; lane < kLanes<float>; ++lane) bits |= (above[lane] & 1u) << lane;
  return bits;
}
#endif

// Finds the values above the bound, in order, until the row ends or `found` has no room for another group of vectors;
// returns how many, and in *scanned how far it came.
template <typename T>
inline int64_t find_above(const T* values, int64_t size, float bound, int64_t room, uint32_t* found,
                          int64_t* scanned) {
  constexpr int64_t lanes = kLanes<float>;
  constexpr int kGroup = 4;
  static_assert(kGroup * lanes <= 64, "a group's lanes are the bits of a word");
  const vector_t<float> limit = splat(bound);
  int64_t count = 0;
  int64_t i = 0;
  for (; i + kGroup * lanes <= size && count + kGroup * lanes <= room; i += kGroup * lanes) {
    uint64_t word = 0;
    for (int v = 0; v < kGroup; ++v) {
      word |= static_cast<uint64_t>(lanes_above(load(values + i + v * lanes), limit)) << (v * lanes);
    }
    for (; word != 0; word &= word - 1) found[count++] = static_cast<uint32_t>(i + __builtin_ctzll(word));
  }
  if (i + kGroup * lanes > size) {
    for (; i < size && count < room; ++i) {
      if (widen(values[i]) > bound) found[count++] = static_cast<uint32_t>(i);
    }
  }
  *scanned = i;
  return count;
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
