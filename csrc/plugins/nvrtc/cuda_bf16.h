// For NVRTC where CUDA's headers are not installed: bf16 as the kernels use it, stored and converted.
#pragma once

struct __nv_bfloat16 {
  unsigned short bits;
};

__device__ __forceinline__ float __bfloat162float(__nv_bfloat16 value) {
  return __uint_as_float(static_cast<unsigned>(value.bits) << 16);
}

// To the nearest, ties to even, without the instruction of compute capability 8.0.
__device__ __forceinline__ __nv_bfloat16 __float2bfloat16_rn(float value) {
  const unsigned bits = __float_as_uint(value);
  if (value != value) return {0x7FFF};
  return {static_cast<unsigned short>((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16)};
}
