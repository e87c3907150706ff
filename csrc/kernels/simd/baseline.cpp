// The inner loops for every processor of the architecture that is compiled for.
#define FASTDET_VECTOR_BYTES 16
#include "../loops.inl"

namespace fastdet {

const CpuKernels* baseline_kernels() {
  static const CpuKernels kernels = kernels_of_this_set("baseline");
  return &kernels;
}

}  // namespace fastdet
