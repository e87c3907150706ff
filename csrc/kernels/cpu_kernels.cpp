// Chooses the inner loops for this processor.
#include "cpu_kernels.h"

#include <cstdlib>
#include <cstring>

namespace fastdet {

const CpuKernels* baseline_kernels();

#if defined(__x86_64__) && !defined(FASTDET_PORTABLE)
const CpuKernels* avx2_kernels();
const CpuKernels* avx512_kernels();

namespace {

const CpuKernels* choose() {
  const char* wanted = std::getenv("FASTDET_CPU");
  const bool any = wanted == nullptr || std::strcmp(wanted, "avx512") == 0;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (any && avx512) return avx512_kernels();
  if ((any || std::strcmp(wanted, "avx2") == 0) && avx2) return avx2_kernels();
  return baseline_kernels();
}

}  // namespace
#else
namespace {
const CpuKernels* choose() { return baseline_kernels(); }
}  // namespace
#endif

const CpuKernels& cpu_kernels() {
  static const CpuKernels* chosen = choose();
  return *chosen;
}

}  // namespace fastdet
