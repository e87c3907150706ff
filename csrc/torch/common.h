// What the torch bindings share: argument checks with one form of message, and torch's thread pool.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <initializer_list>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "../kernels/common.h"

namespace fastdet {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <typename... Parts>
void check(bool holds, const Parts&... parts) {
  if (holds) return;
  std::ostringstream message;
  message << "fastdet: ";
  (message << ... << parts);
  throw std::runtime_error(message.str());
}

inline std::string shape_of(const Tensor& tensor) {
  std::ostringstream text;
  text << '[';
  for (int64_t d = 0; d < tensor.dim(); ++d) text << (d > 0 ? ", " : "") << tensor.size(d);
  text << ']';
  return text.str();
}

// Wanted sizes; -1 stands for any.
inline void check_shape(const char* name, const Tensor& tensor, std::initializer_list<int64_t> wanted) {
  bool fits = tensor.dim() == static_cast<int64_t>(wanted.size());
  std::ostringstream text;
  int64_t d = 0;
  for (const int64_t size : wanted) {
    fits = fits && (size < 0 || tensor.size(d) == size);
    text << (d > 0 ? ", " : "");
    if (size < 0) text << '*';
    else text << size;
    ++d;
  }
  check(fits, "`", name, "` must have shape [", text.str(), "], got ", shape_of(tensor));
}

inline void check_dtype(const char* name, const Tensor& tensor, ScalarType wanted) {
  check(tensor.scalar_type() == wanted, "`", name, "` must have dtype ", torch::headeronly::toString(wanted), ", got ",
        torch::headeronly::toString(tensor.scalar_type()));
}

inline void check_same_device(const char* name, const Tensor& tensor, const Tensor& first) {
  check(tensor.is_cuda() == first.is_cuda() && tensor.get_device_index() == first.get_device_index(), "`", name,
        "` is on another device than the first argument");
}

inline Tensor new_tensor(std::vector<int64_t> sizes, ScalarType dtype, const Tensor& like,
                         MemoryFormat format = MemoryFormat::Contiguous) {
  return torch::stable::empty(sizes, dtype, std::nullopt, like.device(), std::nullopt, format);
}

inline void run_in_torch_pool(int64_t size, int64_t grain, ParallelBody body, void* context) {
  TORCH_ERROR_CODE_CHECK(torch_parallel_for(0, size, grain, body, context));
}

}  // namespace fastdet
