// The inner loops for every processor of the architecture that is compiled for.
#include "../loops.inl"

namespace fastdet {

const CpuKernels* baseline_kernels() {
  static const CpuKernels kernels = kernels_of_this_set("baseline");
  return &kernels;
}

}  // namespace fastdet
