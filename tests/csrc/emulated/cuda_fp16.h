// fp16 of CUDA on the CPU.
#pragma once

#include "kernels/half.h"

using __half = fastdet::Half;

inline float __half2float(__half value) { return fastdet::widen(value); }
inline __half __float2half_rn(float value) { return fastdet::narrow<fastdet::Half>(value); }
