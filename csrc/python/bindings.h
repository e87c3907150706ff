// Parts of the module fastdet._C: each adds its functions.
#pragma once

#include <pybind11/pybind11.h>

#include <optional>

namespace fastdet {

namespace py = pybind11;

using OptionalObject = std::optional<py::object>;

// The kernels run on the calling thread, without the interpreter lock.
template <typename Function>
void without_lock(const Function& function) {
  const py::gil_scoped_release release;
  function();
}

void bind_dense(py::module_& module);
void bind_losses(py::module_& module);
void bind_pooling(py::module_& module);
void bind_postprocess(py::module_& module);

}  // namespace fastdet
