// What every kernel needs: host+device functions, exact arithmetic, element types, the caller's parallel loop.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define FASTDET_HD __host__ __device__ __forceinline__
#else
#define FASTDET_HD inline
#endif

// Code that is compiled once per instruction set lives in a namespace named after the set, so that the linker never
// serves AVX-512 code to a plain x86-64 machine.
#ifndef FASTDET_ISA
#define FASTDET_ISA baseline
#endif

namespace fastdet {

enum class DType : int { kFloat32, kFloat16, kBFloat16, kFloat64 };

// Runs body(begin, end, context) over pieces of [0, size) of at least `grain` items each, on any threads.
using ParallelBody = void (*)(int64_t begin, int64_t end, void* context);
using ParallelRunner = void (*)(int64_t size, int64_t grain, ParallelBody body, void* context);

// Opening a parallel region costs milliseconds on a busy machine, so a piece should hold at least this much work.
constexpr int64_t kMinTaskNanoseconds = 300000;

inline void run_serially(int64_t size, int64_t, ParallelBody body, void* context) { body(0, size, context); }

template <typename Function>
void parallel_for(ParallelRunner run, int64_t size, int64_t grain, const Function& function) {
  if (size <= 0) return;
  const ParallelBody body = [](int64_t begin, int64_t end, void* context) {
    (*static_cast<const Function*>(context))(begin, end);
  };
  void* context = const_cast<void*>(static_cast<const void*>(&function));
  if (size <= grain) {
    body(0, size, context);
  } else {
    run(size, grain, body, context);
  }
}

inline namespace FASTDET_ISA {

// Products and sums that no compiler fuses, so that a CPU and a GPU take the same decision at a threshold. The host
// side relies on -ffp-contract=off. V is a float, a double or a vector of them.
template <typename V>
FASTDET_HD V exact_mul(V a, V b) {
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(V) == 4) {
    return __fmul_rn(a, b);
  } else {
    return __dmul_rn(a, b);
  }
#else
  return a * b;
#endif
}

template <typename V>
FASTDET_HD V exact_add(V a, V b) {
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(V) == 4) {
    return __fadd_rn(a, b);
  } else {
    return __dadd_rn(a, b);
  }
#else
  return a + b;
#endif
}

template <typename V>
FASTDET_HD V smaller(V a, V b) {
  return a < b ? a : b;
}

template <typename V>
FASTDET_HD V larger(V a, V b) {
  return a > b ? a : b;
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
