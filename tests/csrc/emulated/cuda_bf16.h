// bf16 of CUDA on the CPU.
#pragma once

#include "kernels/half.h"

using __nv_bfloat16 = fastdet::BFloat16;

inline float __bfloat162float(__nv_bfloat16 value) { return fastdet::widen(value); }
inline __nv_bfloat16 __float2bfloat16_rn(float value) { return fastdet::narrow<fastdet::BFloat16>(value); }
