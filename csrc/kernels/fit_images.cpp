// Pictures resized into a batch on the CPU: the columns' taps once a picture, then row by row.
#include "fit_images.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace fastdet {
namespace {

struct Picture {
  const uint8_t* pixels;
  int64_t height;
  int64_t width;
  int64_t new_height;
  int64_t new_width;
  std::vector<FitTap> columns;
};

void halved_row(const FitImagesArgs& args, const Picture& picture, int64_t y, uint8_t* out) {
  const uint8_t* upper = picture.pixels + 2 * y * picture.width * kPictureChannels;
  const uint8_t* lower = upper + picture.width * kPictureChannels;
  for (int64_t x = 0; x < picture.new_width; ++x) {
    for (int64_t c = 0; c < kPictureChannels; ++c) {
      const int64_t i = 2 * x * kPictureChannels + c;
      const int sum = upper[i] + upper[i + kPictureChannels] + lower[i] + lower[i + kPictureChannels];
      out[x * args.column_stride + c * args.channel_stride] = static_cast<uint8_t>((sum + 2) >> 2);
    }
  }
}

void blended_row(const FitImagesArgs& args, const Picture& picture, int64_t y, uint8_t* out) {
  const FitTap row = fit_tap(y, picture.height, picture.new_height, false);
  const uint8_t* upper = picture.pixels + row.cell * picture.width * kPictureChannels;
  const uint8_t* lower = picture.pixels + row.next * picture.width * kPictureChannels;
  for (int64_t x = 0; x < picture.new_width; ++x) {
    const FitTap& column = picture.columns[x];
    for (int64_t c = 0; c < kPictureChannels; ++c) {
      out[x * args.column_stride + c * args.channel_stride] =
          fit_column(fit_row(upper, column, c), fit_row(lower, column, c), row);
    }
  }
}

void fit(const FitImagesArgs& args, int64_t index) {
  const int64_t* place = args.pictures + index * 3;
  const int64_t* size = args.sizes + index * 2;
  const int64_t bytes = args.height * args.width * kPictureChannels;
  uint8_t* image = args.images + index * bytes;
  std::memset(image, 0, static_cast<size_t>(bytes));
  if (!fit_is_within(args, place, size)) return;
  Picture picture{args.pixels + place[0], place[1], place[2], size[0], size[1], {}};
  const bool halves = fit_halves(picture.height, picture.width, picture.new_height, picture.new_width);
  if (!halves) {
    for (int64_t x = 0; x < picture.new_width; ++x) {
      picture.columns.push_back(fit_tap(x, picture.width, picture.new_width, true));
    }
  }
  for (int64_t y = 0; y < picture.new_height; ++y) {
    (halves ? halved_row : blended_row)(args, picture, y, image + y * args.row_stride);
  }
}

}  // namespace

void fit_images_cpu(const FitImagesArgs& args, ParallelRunner run) {
  const int64_t nanoseconds = std::max<int64_t>(1, args.height * args.width * 10);
  parallel_for(run, args.count, std::max<int64_t>(1, kMinTaskNanoseconds / nanoseconds),
               [&](int64_t begin, int64_t end) {
                 for (int64_t index = begin; index < end; ++index) fit(args, index);
               });
}

}  // namespace fastdet
