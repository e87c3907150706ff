// What the CUDA bindings share: the current stream and launch errors.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#include "common.h"

namespace fastdet {

using torch::stable::accelerator::DeviceGuard;

// The stream that torch runs on, as the kernels take it.
inline void* current_stream(const Tensor& tensor) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return stream;
}

inline void check_cuda(const char* what, int error) {
  check(error == cudaSuccess, what, ": ", cudaGetErrorString(static_cast<cudaError_t>(error)));
}

// Kernels read a box as one 16-byte value; a view into the middle of a buffer may start anywhere.
inline Tensor aligned(const Tensor& boxes) {
  const Tensor contiguous = torch::stable::contiguous(boxes);
  const bool fits = reinterpret_cast<uintptr_t>(contiguous.const_data_ptr()) % 16 == 0;
  return fits ? contiguous : torch::stable::clone(contiguous);
}

}  // namespace fastdet
