// The inner loops for x86-64 processors with AVX-512. Standard headers come before the target is set: their inline
// functions are shared with files that are compiled for older processors.
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__) && !defined(FASTDET_PORTABLE)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#endif

#define FASTDET_ISA avx512
#define FASTDET_VECTOR_BYTES 64
#include "../loops.inl"

namespace fastdet {

const CpuKernels* avx512_kernels() {
  static const CpuKernels kernels = kernels_of_this_set("avx512");
  return &kernels;
}

}  // namespace fastdet

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
