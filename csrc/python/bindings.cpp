// The module fastdet._C: the kernels on NumPy and DLPack arrays, without torch.
#include <pybind11/pybind11.h>

#include "fastdet_build_info.h"

namespace py = pybind11;

PYBIND11_MODULE(_C, m) {
  m.doc() = "fastdet's kernels on NumPy arrays.";
}
