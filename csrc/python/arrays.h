// NumPy and DLPack arrays as the kernels take them, checked with one form of message.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <initializer_list>
#include <sstream>
#include <string>

#include "../kernels/half.h"

namespace fastdet {

namespace py = pybind11;

template <typename... Parts>
void check(bool holds, const Parts&... parts) {
  if (holds) return;
  std::ostringstream message;
  (message << ... << parts);
  throw py::value_error(message.str());
}

// A NumPy array of anything: an array as it is, a DLPack array of the CPU without a copy, a list with one.
inline py::array any_array(const py::handle& object) {
  if (py::isinstance<py::array>(object)) return py::reinterpret_borrow<py::array>(object);
  const py::module_ numpy = py::module_::import("numpy");
  return numpy.attr(py::hasattr(object, "__dlpack__") ? "from_dlpack" : "asarray")(object);
}

inline std::string shape_of(const py::array& array) {
  std::ostringstream text;
  text << '[';
  for (py::ssize_t d = 0; d < array.ndim(); ++d) text << (d > 0 ? ", " : "") << array.shape(d);
  text << ']';
  return text.str();
}

// Wanted sizes; -1 stands for any.
inline void check_shape(const char* name, const py::array& array, std::initializer_list<int64_t> wanted) {
  bool fits = array.ndim() == static_cast<py::ssize_t>(wanted.size());
  std::ostringstream text;
  py::ssize_t d = 0;
  for (const int64_t size : wanted) {
    fits = fits && (size < 0 || array.shape(d) == size);
    text << (d > 0 ? ", " : "");
    if (size < 0) text << '*';
    else text << size;
    ++d;
  }
  check(fits, "`", name, "` must have shape [", text.str(), "], got ", shape_of(array));
}

template <typename T>
using PlainArray = py::array_t<T, py::array::c_style>;

// A contiguous array of T. Floating point is converted to T, every other type must be T already.
template <typename T>
PlainArray<T> plain_array(const char* name, const py::handle& object, std::initializer_list<int64_t> shape) {
  const py::array array = any_array(object);
  const bool converts = std::is_floating_point_v<T> && array.dtype().kind() == 'f';
  check(converts || py::isinstance<py::array_t<T>>(array), "`", name, "` must have dtype ",
        py::cast<std::string>(py::str(py::dtype::of<T>())), ", got ", py::cast<std::string>(py::str(array.dtype())));
  check_shape(name, array, shape);
  return py::array_t<T, py::array::c_style | py::array::forcecast>::ensure(array);
}

// The element type of features and a NumPy type of its size.
inline DType feature_dtype(const py::array& array) {
  const py::dtype dtype = array.dtype();
  if (dtype.kind() == 'f' && dtype.itemsize() == 2) return DType::kFloat16;
  if (dtype.kind() == 'f' && dtype.itemsize() == 4) return DType::kFloat32;
  if (dtype.kind() == 'f' && dtype.itemsize() == 8) return DType::kFloat64;
  check(false, "`features` must be float32, float16 or float64, got ", py::cast<std::string>(py::str(dtype)));
  return DType::kFloat32;
}

}  // namespace fastdet
