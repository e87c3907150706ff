// Exponential, logarithm and arctangent of float vectors, to 2 units in the last place. Included by loops.inl before
// the headers whose templates call them.
#pragma once

#include <cmath>

#include "simd.h"

namespace fastdet {
inline namespace FASTDET_ISA {

// exp(x) for x <= 0; 0 from -87.3 downwards, where results would be subnormal. NaN gives a number: who needs it to
// stay NaN gets it from elsewhere. With n = round(x / ln 2): exp(x) = 2^n exp(x - n ln 2), and the rest is a
// polynomial of minimal largest error on [-ln 2 / 2, ln 2 / 2].
inline vector_t<float> exp_of_negative(vector_t<float> x) {
  using F = vector_t<float>;
  using I = vector_t<int32_t>;
  constexpr float kSmallest = -87.3f;
  const F roundable = multiply_add(x, splat(1.44269504f), splat(12582912.0f));  // 1.5 * 2^23: the sum is an integer
  const F n = roundable - splat(12582912.0f);
  // ln 2 in two parts, the first of which is short enough for exact products.
  const F rest = multiply_add(n, splat(2.12194440e-4f), multiply_add(n, splat(-0.693359375f), x));
  F p = splat(1.39261761e-3f);
  p = multiply_add(p, rest, splat(8.36317307e-3f));
  p = multiply_add(p, rest, splat(4.16665547e-2f));
  p = multiply_add(p, rest, splat(1.66665770e-1f));
  p = multiply_add(p, rest, splat(0.5f));
  p = multiply_add(p * rest, rest, rest) + splat(1.0f);
  const I exponent = (reinterpret_cast<I>(roundable) << 23) + 0x3F800000;
  return x > splat(kSmallest) ? p * reinterpret_cast<F>(exponent) : F{};
}

// atanh(w) for w in [0, 1/3]: w times a polynomial in w^2 of minimal largest error.
inline vector_t<float> atanh_of_third(vector_t<float> w) {
  using F = vector_t<float>;
  const F square = w * w;
  F p = splat(1.40788892e-1f);
  p = multiply_add(p, square, splat(1.39825789e-1f));
  p = multiply_add(p, square, splat(2.00122976e-1f));
  p = multiply_add(p, square, splat(3.33331608e-1f));
  return multiply_add(p * square, w, w);
}

// On [0, 1] a polynomial in x^2 of minimal largest error; beyond, pi / 2 - atan(1 / x). NaN stays NaN.
inline vector_t<float> arctangent(vector_t<float> x) {
  using F = vector_t<float>;
  const F one = splat(1.0f);
  const F size = x < F{} ? -x : x;
  const auto steep = size > one;
  const F slope = steep ? one / size : size;
  const F square = slope * slope;
  F p = splat(2.766283502e-3f);
  p = multiply_add(p, square, splat(-1.573124912e-2f));
  p = multiply_add(p, square, splat(4.213762359e-2f));
  p = multiply_add(p, square, splat(-7.456854826e-2f));
  p = multiply_add(p, square, splat(1.061837064e-1f));
  p = multiply_add(p, square, splat(-1.419779779e-1f));
  p = multiply_add(p, square, splat(1.999187203e-1f));
  p = multiply_add(p, square, splat(-3.333303671e-1f));
  const F angle = multiply_add(p * square, slope, slope);
  const F whole = steep ? splat(1.57079633f) - angle : angle;
  return x < F{} ? -whole : whole;
}

inline vector_t<double> arctangent(vector_t<double> x) {
  for (int lane = 0; lane < kLanes<double>; ++lane) x[lane] = std::atan(x[lane]);
  return x;
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
