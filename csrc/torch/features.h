// Feature tensors: their element types and memory formats, as the kernels name them.
#pragma once

#include "common.h"

namespace fastdet {

inline DType feature_dtype(const char* name, ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Float:
      return DType::kFloat32;
    case ScalarType::Half:
      return DType::kFloat16;
    case ScalarType::BFloat16:
      return DType::kBFloat16;
    case ScalarType::Double:
      return DType::kFloat64;
    default:
      break;
  }
  check(false, "`", name, "` must be float32, float16, bfloat16 or float64, got ", torch::headeronly::toString(dtype));
  return DType::kFloat32;
}

inline bool is_half(ScalarType dtype) { return dtype == ScalarType::Half || dtype == ScalarType::BFloat16; }

// What values of a feature type are summed in.
inline ScalarType sum_dtype(ScalarType dtype) { return is_half(dtype) ? ScalarType::Float : dtype; }

inline MemoryFormat format_of(bool channels_last) {
  return channels_last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous;
}

}  // namespace fastdet
