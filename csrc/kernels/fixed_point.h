// Sums whose result does not depend on the order of their terms: terms are rounded to integers, and integers are added.
#pragma once

#include <cmath>

#include "common.h"

namespace fastdet {
inline namespace FASTDET_ISA {

// A power of two for sums of at most `count` terms of at most `bound`, so large that they just fit into 63 bits. Each
// term is rounded by at most half of 1 / scale, which is below bound * count * 2^-61. `bound` is finite, or the scale
// means nothing.
FASTDET_HD double fixed_point_scale(double bound, int64_t count) {
  constexpr int kBits = 62, kMostExponent = 1000;
  if (!(bound > 0.0)) return 1.0;
  int exponent = 0;
  frexp(bound, &exponent);  // bound < 2^exponent
  int bits = 0;
  while (bits < kBits && (int64_t{1} << bits) < count) ++bits;
  const int shift = kBits - bits - exponent;
  return ldexp(1.0, shift < kMostExponent ? shift : kMostExponent);
}

FASTDET_HD int64_t to_fixed_point(double term, double scale) { return llrint(term * scale); }

FASTDET_HD double from_fixed_point(int64_t sum, double scale) { return static_cast<double>(sum) / scale; }

}  // namespace FASTDET_ISA
}  // namespace fastdet
