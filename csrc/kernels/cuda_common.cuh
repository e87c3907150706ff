// Element types and launch sizes of the CUDA kernels.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "common.h"

namespace fastdet {

template <typename T>
struct DeviceAccumulator {
  using type = float;
};

template <>
struct DeviceAccumulator<double> {
  using type = double;
};

template <typename T>
using device_accumulator_t = typename DeviceAccumulator<T>::type;

__device__ __forceinline__ float device_widen(float value) { return value; }
__device__ __forceinline__ double device_widen(double value) { return value; }
__device__ __forceinline__ float device_widen(__half value) { return __half2float(value); }
__device__ __forceinline__ float device_widen(__nv_bfloat16 value) { return __bfloat162float(value); }

template <typename T>
__device__ __forceinline__ T device_narrow(device_accumulator_t<T> value) {
  return value;
}

template <>
__device__ __forceinline__ __half device_narrow<__half>(float value) {
  return __float2half_rn(value);
}

template <>
__device__ __forceinline__ __nv_bfloat16 device_narrow<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

// Calls function(T{}), which launches a kernel for the type T of elements.
template <typename Function>
int for_device_dtype(DType dtype, const Function& function) {
  switch (dtype) {
    case DType::kFloat32:
      return function(float{});
    case DType::kFloat16:
      return function(__half{});
    case DType::kBFloat16:
      return function(__nv_bfloat16{});
    case DType::kFloat64:
      return function(double{});
  }
  return cudaErrorInvalidValue;
}

constexpr int kWarpThreads = 32;
constexpr unsigned kAllLanes = 0xFFFFFFFFu;  // the mask of an exchange within a whole warp
constexpr int kBlockThreads = 256;

// Blocks of a grid-stride loop over `size` items.
inline unsigned grid_blocks(int64_t size) {
  constexpr int64_t kMostBlocks = 1 << 20;
  const int64_t blocks = (size + kBlockThreads - 1) / kBlockThreads;
  return static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks);
}

}  // namespace fastdet
