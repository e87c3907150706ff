// Vectors of the instruction set that is being compiled for, as GCC and Clang vector types: arithmetic on them is
// written with plain operators. Included once per instruction set, inside the files of simd/, which say how wide a
// vector is: g++ reads all of a file before it meets `#pragma GCC target`, so __AVX512F__ and the like are not set.
#pragma once

#include <cstring>

#include "half.h"

namespace fastdet {
inline namespace FASTDET_ISA {

constexpr int kVectorBytes = FASTDET_VECTOR_BYTES;

template <typename A>
struct VectorOf;

template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(kVectorBytes)));
};

template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(kVectorBytes)));
};

template <>
struct VectorOf<int32_t> {
  typedef int32_t type __attribute__((vector_size(kVectorBytes)));
};

template <typename A>
using vector_t = typename VectorOf<A>::type;

template <typename A>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(A));

// A vector of integers as wide as A, and what comparisons of A give.
template <typename A>
using mask_t = decltype(vector_t<A>{} < vector_t<A>{});

typedef uint32_t BitsVector __attribute__((vector_size(kVectorBytes)));
typedef uint16_t HalfBitsVector __attribute__((vector_size(kVectorBytes / 2)));

template <typename A>
inline vector_t<A> splat(A value) {
  return value - vector_t<A>{};  // a vector of zeros, subtracted so that -0 stays -0
}

// a * b + c in one rounding where the processor has it.
#if FASTDET_VECTOR_BYTES == 64
inline vector_t<float> multiply_add(vector_t<float> a, vector_t<float> b, vector_t<float> c) {
  return _mm512_fmadd_ps(a, b, c);
}
inline vector_t<double> multiply_add(vector_t<double> a, vector_t<double> b, vector_t<double> c) {
  return _mm512_fmadd_pd(a, b, c);
}
#elif FASTDET_VECTOR_BYTES == 32
inline vector_t<float> multiply_add(vector_t<float> a, vector_t<float> b, vector_t<float> c) {
  return _mm256_fmadd_ps(a, b, c);
}
inline vector_t<double> multiply_add(vector_t<double> a, vector_t<double> b, vector_t<double> c) {
  return _mm256_fmadd_pd(a, b, c);
}
#else
template <typename V>
inline V multiply_add(V a, V b, V c) {
  return a * b + c;
}
#endif

// One instruction each, with the rule for NaN that `a < b ? a : b` has; the compiler makes two of a vector's.
#if FASTDET_VECTOR_BYTES == 64
inline vector_t<float> smaller(vector_t<float> a, vector_t<float> b) { return _mm512_maskz_min_ps(0xFFFF, a, b); }
inline vector_t<float> larger(vector_t<float> a, vector_t<float> b) { return _mm512_maskz_max_ps(0xFFFF, a, b); }
#elif FASTDET_VECTOR_BYTES == 32
inline vector_t<float> smaller(vector_t<float> a, vector_t<float> b) { return _mm256_min_ps(a, b); }
inline vector_t<float> larger(vector_t<float> a, vector_t<float> b) { return _mm256_max_ps(a, b); }
#endif

template <typename A>
inline vector_t<A> load(const A* from) {
  vector_t<A> value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

inline BitsVector load_half_bits(const void* from) {
  HalfBitsVector bits;
  std::memcpy(&bits, from, sizeof(bits));
  return __builtin_convertvector(bits, BitsVector);
}

inline vector_t<float> load(const BFloat16* from) {
  return reinterpret_cast<vector_t<float>>(load_half_bits(from) << 16);
}

#if FASTDET_VECTOR_BYTES == 64
inline vector_t<float> load(const Half* from) {
  return _mm512_maskz_cvtph_ps(0xFFFF, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
#elif FASTDET_VECTOR_BYTES == 32
inline vector_t<float> load(const Half* from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
#else
// Exponent and mantissa are moved into place and rescaled by 2^112, which also makes subnormals right; an all-ones
// exponent (infinity, NaN) is then set again.
inline vector_t<float> load(const Half* from) {
  const BitsVector bits = load_half_bits(from);
  const BitsVector sign = (bits & 0x8000u) << 16;
  const BitsVector moved = (bits & 0x7FFFu) << 13;
  const BitsVector special = moved | 0x7F800000u;
  const vector_t<float> scaled = reinterpret_cast<vector_t<float>>(moved) * 5.192296858534828e33f;
  const BitsVector finite = reinterpret_cast<BitsVector>(scaled);
  const BitsVector magnitude = moved >= 0x0F800000u ? special : finite;
  return reinterpret_cast<vector_t<float>>(magnitude | sign);
}
#endif

template <typename A>
inline void store(A* to, vector_t<A> value) {
  std::memcpy(to, &value, sizeof(value));
}

template <typename T>
inline void store(T* to, vector_t<float> value) {
  for (int i = 0; i < kLanes<float>; ++i) to[i] = narrow<T>(value[i]);
}

template <>
inline void store<float>(float* to, vector_t<float> value) {
  std::memcpy(to, &value, sizeof(value));
}

// As narrow does it.
template <>
inline void store<BFloat16>(BFloat16* to, vector_t<float> value) {
  const BitsVector bits = reinterpret_cast<BitsVector>(value);
  const BitsVector rounded = bits + 0x7FFFu + ((bits >> 16) & 1u);
  const BitsVector kept = (bits & 0x7FFFFFFFu) > 0x7F800000u ? BitsVector{} + 0x7FC00000u : rounded;
  const HalfBitsVector half = __builtin_convertvector(kept >> 16, HalfBitsVector);
  std::memcpy(to, &half, sizeof(half));
}

#if FASTDET_VECTOR_BYTES >= 32
// The processor keeps a NaN's payload, narrow does not: it is cleared first.
template <>
inline void store<Half>(Half* to, vector_t<float> value) {
  const BitsVector bits = reinterpret_cast<BitsVector>(value);
  const BitsVector sign = bits & 0x80000000u;
  const BitsVector plain = (bits & 0x7FFFFFFFu) > 0x7F800000u ? sign | 0x7FC00000u : bits;
#if FASTDET_VECTOR_BYTES == 64
  const __m256i half = _mm512_maskz_cvtps_ph(0xFFFF, reinterpret_cast<__m512>(plain), _MM_FROUND_TO_NEAREST_INT);
#else
  const __m128i half = _mm256_cvtps_ph(reinterpret_cast<__m256>(plain), _MM_FROUND_TO_NEAREST_INT);
#endif
  std::memcpy(to, &half, sizeof(half));
}
#endif

// The first `count` lanes of a vector.
template <typename T, typename V>
inline void store_first(T* to, V value, int64_t count) {
  constexpr int lanes = sizeof(V) / sizeof(value[0]);
  T all[lanes];
  store<T>(all, value);
  for (int64_t i = 0; i < count; ++i) to[i] = all[i];
}

#if FASTDET_VECTOR_BYTES == 64
inline void store_first(float* to, vector_t<float> value, int64_t count) {
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1u), value);
}
#endif

// The upper half is added to the lower, and so on.
template <typename A>
inline A sum_of_lanes(vector_t<A> value) {
  A lanes[kLanes<A>];
  store<A>(lanes, value);
  for (int half = kLanes<A> / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

#if FASTDET_VECTOR_BYTES >= 32
template <>
inline float sum_of_lanes<float>(vector_t<float> value) {
#if FASTDET_VECTOR_BYTES == 64
  const __m256 eight =
      _mm256_add_ps(_mm512_maskz_extractf32x8_ps(0xFF, value, 0), _mm512_maskz_extractf32x8_ps(0xFF, value, 1));
#else
  const __m256 eight = value;
#endif
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
#endif

// `integers` are as wide as A.
template <typename A, typename Integer>
inline mask_t<A> load_mask(const Integer* integers) {
  static_assert(sizeof(Integer) == sizeof(A), "a lane of the mask is as wide as A");
  mask_t<A> value;
  std::memcpy(&value, integers, sizeof(value));
  return value;
}

// values[at[lane]] in each lane.
#if FASTDET_VECTOR_BYTES == 64
inline vector_t<float> gather(const float* values, mask_t<float> at) {
  return _mm512_mask_i32gather_ps(vector_t<float>{}, 0xFFFF, reinterpret_cast<__m512i>(at), values, 4);
}
inline vector_t<double> gather(const double* values, mask_t<double> at) {
  return _mm512_mask_i64gather_pd(vector_t<double>{}, 0xFF, reinterpret_cast<__m512i>(at), values, 8);
}
#elif FASTDET_VECTOR_BYTES == 32
inline vector_t<float> gather(const float* values, mask_t<float> at) {
  const vector_t<float> zero{};
  return _mm256_mask_i32gather_ps(zero, values, reinterpret_cast<__m256i>(at), reinterpret_cast<__m256>(zero == zero),
                                  4);
}
inline vector_t<double> gather(const double* values, mask_t<double> at) {
  const vector_t<double> zero{};
  return _mm256_mask_i64gather_pd(zero, values, reinterpret_cast<__m256i>(at), reinterpret_cast<__m256d>(zero == zero),
                                  8);
}
#else
template <typename A>
inline vector_t<A> gather(const A* values, mask_t<A> at) {
  vector_t<A> result{};
  for (int lane = 0; lane < kLanes<A>; ++lane) result[lane] = values[at[lane]];
  return result;
}
#endif

// The same from two vectors' worth of values, which can all be read.
template <typename A>
constexpr int kShortLine = 2 * kLanes<A>;

#if FASTDET_VECTOR_BYTES == 64
inline vector_t<float> gather_short(const float* values, mask_t<float> at) {
  return _mm512_permutex2var_ps(load(values), reinterpret_cast<__m512i>(at), load(values + kLanes<float>));
}
inline vector_t<double> gather_short(const double* values, mask_t<double> at) {
  return _mm512_permutex2var_pd(load(values), reinterpret_cast<__m512i>(at), load(values + kLanes<double>));
}
#else
template <typename A>
inline vector_t<A> gather_short(const A* values, mask_t<A> at) {
  return gather(values, at);
}
#endif

}  // namespace FASTDET_ISA
}  // namespace fastdet
