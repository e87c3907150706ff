// Focal loss and slope of a block of logits. Included by loops.inl.

namespace fastdet {
inline namespace FASTDET_ISA {

inline FocalTerms<vector_t<float>> focal_vectors(vector_t<float> u, float gamma) {
  using F = vector_t<float>;
  const F one = splat(1.0f), zero = F{}, most = splat(kFocalMost<float>);
  const auto below = u < zero;
  const F e = exp_of_negative(below ? u : -u);
  const F one_more = one + e, two_more = splat(2.0f) + e;
  const F inverse = one / (one_more * two_more);  // one division serves both quotients
  const F near_one = two_more * inverse;
  const F log_half = atanh_of_third(e * one_more * inverse);  // log(1 + e) = 2 atanh(e / (2 + e))
  const F log_term = log_half + log_half;
  FocalTerms<F> terms;
  terms.wrong = below ? e * near_one : near_one;
  terms.right = below ? near_one : e * near_one;
  terms.entropy = (below ? zero : u) + log_term;
  terms.power = gamma == 2.0f ? terms.wrong * terms.wrong
                              : exp_of_negative(splat(gamma) * ((below ? larger(u, -most) : zero) - log_term));
  return terms;
}

// out = factor * loss for blocks of logits of being wrong; returns the sum. `count` is a multiple of the lanes.
template <typename A>
inline A focal_values(const A* logits, const A* factors, int64_t count, A gamma, A* out) {
  A total = A(0);
  if constexpr (sizeof(A) == sizeof(double)) {
    for (int64_t i = 0; i < count; ++i) {
      out[i] = factors[i] * focal_value(logits[i], gamma);
      total += out[i];
    }
  } else {
    vector_t<float> sum{};
    for (int64_t i = 0; i < count; i += kLanes<float>) {
      const FocalTerms<vector_t<float>> terms = focal_vectors(load(logits + i), gamma);
      const vector_t<float> value = load(factors + i) * terms.power * terms.entropy;
      store<float>(out + i, value);
      sum += value;
    }
    for (int lane = 0; lane < kLanes<float>; ++lane) total += sum[lane];
  }
  return total;
}

template <typename A>
inline void focal_slopes(const A* logits, const A* factors, int64_t count, A gamma, A* out) {
  if constexpr (sizeof(A) == sizeof(double)) {
    for (int64_t i = 0; i < count; ++i) out[i] = factors[i] * focal_slope(logits[i], gamma);
  } else {
    const vector_t<float> most = splat(kFocalMost<float>);
    for (int64_t i = 0; i < count; i += kLanes<float>) {
      const FocalTerms<vector_t<float>> terms = focal_vectors(load(logits + i), gamma);
      const vector_t<float> entropy = most < terms.entropy ? most : terms.entropy;
      const vector_t<float> slope = terms.power * multiply_add(splat(gamma) * terms.right, entropy, terms.wrong);
      store<float>(out + i, load(factors + i) * slope);
    }
  }
}

template <typename T>
inline void widen_row(const T* from, int64_t count, accumulator_t<T>* to) {
  using A = accumulator_t<T>;
  int64_t i = 0;
  for (; i + kLanes<A> <= count; i += kLanes<A>) store<A>(to + i, vector_t<A>(load(from + i)));
  for (; i < count; ++i) to[i] = widen(from[i]);
}

template <typename T>
inline void narrow_row(const accumulator_t<T>* from, int64_t count, T* to) {
  using A = accumulator_t<T>;
  int64_t i = 0;
  for (; i + kLanes<A> <= count; i += kLanes<A>) store<T>(to + i, load(from + i));
  for (; i < count; ++i) to[i] = narrow<T>(from[i]);
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
