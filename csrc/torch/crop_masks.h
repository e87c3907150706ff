// Arguments of crop_masks, checked once for both devices.
#pragma once

#include "../kernels/crop_masks.h"
#include "common.h"

namespace fastdet {

// Everything but `crops`; the contiguous arguments live here.
class CropMasksArguments {
 public:
  CropMasksArguments(const Tensor& bits, const Tensor& offsets, const Tensor& windows, const Tensor& mask_index,
                     const Tensor& boxes, int64_t output_size, int64_t image_h, int64_t image_w)
      : bits_(torch::stable::contiguous(bits)),
        offsets_(torch::stable::contiguous(offsets)),
        windows_(torch::stable::contiguous(windows)),
        mask_index_(torch::stable::contiguous(mask_index)),
        boxes_(torch::stable::contiguous(boxes)) {
    check_shape("bits", bits, {-1});
    check_dtype("bits", bits, ScalarType::Byte);
    check_shape("offsets", offsets, {-1});
    check_dtype("offsets", offsets, ScalarType::Long);
    check_shape("windows", windows, {offsets.size(0), 4});
    check_dtype("windows", windows, ScalarType::Int);
    check_shape("mask_index", mask_index, {-1});
    check_dtype("mask_index", mask_index, ScalarType::Long);
    check_shape("boxes", boxes, {mask_index.size(0), 4});
    check_dtype("boxes", boxes, ScalarType::Float);
    check_same_device("offsets", offsets, bits);
    check_same_device("windows", windows, bits);
    check_same_device("mask_index", mask_index, bits);
    check_same_device("boxes", boxes, bits);
    check(output_size > 0, "`output_size` must be positive, got ", output_size);
    constexpr int64_t kMaxSide = int64_t{1} << 30;
    check(image_h > 0 && image_w > 0 && image_h < kMaxSide && image_w < kMaxSide,
          "`image_size` must be positive, got (", image_h, ", ", image_w, ")");
    args.bits = bits_.const_data_ptr<uint8_t>();
    args.num_bits = bits.size(0);
    args.offsets = offsets_.const_data_ptr<int64_t>();
    args.windows = windows_.const_data_ptr<int32_t>();
    args.num_masks = offsets.size(0);
    args.mask_index = mask_index_.const_data_ptr<int64_t>();
    args.boxes = boxes_.const_data_ptr<float>();
    args.num_boxes = mask_index.size(0);
    args.side = output_size;
    args.image_h = image_h;
    args.image_w = image_w;
  }

  CropMasksArgs args{};

 private:
  Tensor bits_;
  Tensor offsets_;
  Tensor windows_;
  Tensor mask_index_;
  Tensor boxes_;
};

}  // namespace fastdet
