// For NVRTC where CUDA's headers are not installed: fp16 as the kernels use it, stored and converted.
#pragma once

struct __half {
  unsigned short bits;
};

__device__ __forceinline__ float __half2float(__half value) {
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value.bits));
  return wide;
}

__device__ __forceinline__ __half __float2half_rn(float value) {
  __half narrow;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(narrow.bits) : "f"(value));
  return narrow;
}
