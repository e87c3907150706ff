// Pictures of any size, resized into the upper left corners of one batch: bilinear interpolation of bytes in fixed point,
// bit for bit what OpenCV's `resize` gives with INTER_LINEAR, which the detectors were trained with.
//
// Source: OpenCV, documentation of cv::resize (pixel centres at (x + 0.5) * scale - 0.5, weights of 11 bits; halving both
// sides takes the mean of four pixels).
#pragma once

#include <cmath>

#include "common.h"

namespace fastdet {

constexpr int64_t kPictureChannels = 3;

struct FitImagesArgs {
  const uint8_t* pixels;    // pictures one after the other, each [height, width, 3]
  int64_t num_pixels;       // bytes of all of them
  const int64_t* pictures;  // [count, 3]: first byte, height, width
  const int64_t* sizes;     // [count, 2]: height and width that the picture gets, within the output's
  int64_t count;
  int64_t height;
  int64_t width;
  int64_t row_stride;  // of the output, in bytes
  int64_t column_stride;
  int64_t channel_stride;
  uint8_t* images;  // [count, height * width * 3 bytes]; 0 outside of the picture
};

void fit_images_cpu(const FitImagesArgs& args, ParallelRunner run);

// On a device; cudaError_t. A picture that does not lie within the pixels, or does not fit, gives zeros.
int fit_images_cuda(const FitImagesArgs& args, void* stream);

inline namespace FASTDET_ISA {

constexpr int kFitOne = 2048;  // the weight 1

// The two source pixels of an output pixel along one axis, and their weights.
struct FitTap {
  int64_t cell;
  int64_t next;
  int weight;
  int next_weight;
};

FASTDET_HD int64_t fit_clamp(int64_t cell, int64_t size) { return cell < 0 ? 0 : cell >= size ? size - 1 : cell; }

// `stops`: beyond the outermost pixels the weights are those of one pixel; else both taps are the outermost pixel.
FASTDET_HD FitTap fit_tap(int64_t place, int64_t size, int64_t target, bool stops) {
  const double scale = 1.0 / (static_cast<double>(target) / static_cast<double>(size));
  const float position = static_cast<float>(exact_add(exact_mul(static_cast<double>(place) + 0.5, scale), -0.5));
  const float first = static_cast<float>(floor(position));
  int64_t cell = static_cast<int64_t>(first);
  float fraction = exact_add(position, -first);
  if (stops && (cell < 0 || cell >= size - 1)) {
    cell = cell < 0 ? 0 : size - 1;
    fraction = 0.0f;
  }
  const int weight = static_cast<int>(rint(exact_mul(exact_add(1.0f, -fraction), static_cast<float>(kFitOne))));
  const int next_weight = static_cast<int>(rint(exact_mul(fraction, static_cast<float>(kFitOne))));
  return {fit_clamp(cell, size), fit_clamp(cell + 1, size), weight, next_weight};
}

// Whether both sides are halved.
FASTDET_HD bool fit_halves(int64_t height, int64_t width, int64_t new_height, int64_t new_width) {
  return height == 2 * new_height && width == 2 * new_width;
}

// Along x, in units of 1 / 2048.
FASTDET_HD int fit_row(const uint8_t* row, const FitTap& x, int64_t channel) {
  return row[x.cell * kPictureChannels + channel] * x.weight + row[x.next * kPictureChannels + channel] * x.next_weight;
}

// Along y, rounded as OpenCV does.
FASTDET_HD uint8_t fit_column(int upper, int lower, const FitTap& y) {
  return static_cast<uint8_t>((((y.weight * (upper >> 4)) >> 16) + ((y.next_weight * (lower >> 4)) >> 16) + 2) >> 2);
}

FASTDET_HD bool fit_is_within(const FitImagesArgs& args, const int64_t* picture, const int64_t* size) {
  if (picture[0] < 0 || picture[1] < 1 || picture[2] < 1) return false;
  if (picture[1] > args.num_pixels || picture[2] > args.num_pixels) return false;  // so that the product fits
  if (picture[0] > args.num_pixels - picture[1] * picture[2] * kPictureChannels) return false;
  return size[0] >= 1 && size[1] >= 1 && size[0] <= args.height && size[1] <= args.width;
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
