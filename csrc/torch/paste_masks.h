// Arguments of paste_masks, checked once for both devices.
#pragma once

#include "../kernels/paste_masks.h"
#include "common.h"

namespace fastdet {

// The contiguous arguments and the result live here.
class PasteMasksArguments {
 public:
  PasteMasksArguments(const Tensor& masks, const Tensor& boxes, int64_t height, int64_t width, double threshold)
      : masks_(torch::stable::contiguous(masks)), boxes_(torch::stable::contiguous(boxes)) {
    check_shape("masks", masks, {-1, -1, -1});
    check_dtype("masks", masks, ScalarType::Float);
    check_shape("boxes", boxes, {masks.size(0), 4});
    check_dtype("boxes", boxes, ScalarType::Float);
    check_same_device("boxes", boxes, masks);
    check(height >= 0 && width >= 0, "`size` must not be negative, got (", height, ", ", width, ")");
    check(masks.size(1) > 0 && masks.size(2) > 0, "`masks` must have cells, got ", shape_of(masks));
    pasted = new_tensor({masks.size(0), height, width}, ScalarType::Bool, masks);
    args = {masks_.const_data_ptr<float>(),
            boxes_.const_data_ptr<float>(),
            masks.size(0),
            masks.size(1),
            masks.size(2),
            height,
            width,
            static_cast<float>(threshold),
            reinterpret_cast<uint8_t*>(pasted.mutable_data_ptr<bool>())};
  }

  PasteMasksArgs args{};
  Tensor pasted;

 private:
  Tensor masks_;
  Tensor boxes_;
};

}  // namespace fastdet
