// Arguments of fit_images, checked once for both devices.
#pragma once

#include "../kernels/fit_images.h"
#include "common.h"

namespace fastdet {

// The contiguous arguments and the result live here.
class FitImagesArguments {
 public:
  FitImagesArguments(const Tensor& pixels, const Tensor& pictures, const Tensor& sizes, int64_t height, int64_t width,
                     bool channels_first)
      : pixels_(torch::stable::contiguous(pixels)),
        pictures_(torch::stable::contiguous(pictures)),
        sizes_(torch::stable::contiguous(sizes)) {
    check_shape("pixels", pixels, {-1});
    check_dtype("pixels", pixels, ScalarType::Byte);
    check_shape("pictures", pictures, {-1, 3});
    check_dtype("pictures", pictures, ScalarType::Long);
    check_same_device("pictures", pictures, pixels);
    const int64_t count = pictures.size(0);
    check_shape("sizes", sizes, {count, 2});
    check_dtype("sizes", sizes, ScalarType::Long);
    check_same_device("sizes", sizes, pixels);
    check(height >= 1 && width >= 1, "`shape` must be at least (1, 1), got (", height, ", ", width, ")");
    const std::vector<int64_t> shape = channels_first ? std::vector<int64_t>{count, kPictureChannels, height, width}
                                                      : std::vector<int64_t>{count, height, width, kPictureChannels};
    images = new_tensor(shape, ScalarType::Byte, pixels);
    args = {pixels_.const_data_ptr<uint8_t>(),
            pixels.numel(),
            pictures_.const_data_ptr<int64_t>(),
            sizes_.const_data_ptr<int64_t>(),
            count,
            height,
            width,
            channels_first ? width : width * kPictureChannels,
            channels_first ? 1 : kPictureChannels,
            channels_first ? height * width : 1,
            images.mutable_data_ptr<uint8_t>()};
  }

  FitImagesArgs args{};
  Tensor images;

 private:
  Tensor pixels_;
  Tensor pictures_;
  Tensor sizes_;
};

}  // namespace fastdet
