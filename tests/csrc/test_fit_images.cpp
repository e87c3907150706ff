// Resized pictures: known values, zeros around them, and pictures that lie outside of the bytes.
#include "kernels/fit_images.h"
#include "testing.h"

namespace {

fastdet::FitImagesArgs arguments(const std::vector<uint8_t>& pixels, const std::vector<int64_t>& pictures,
                                 const std::vector<int64_t>& sizes, int64_t height, int64_t width,
                                 std::vector<uint8_t>& images) {
  const int64_t count = static_cast<int64_t>(pictures.size()) / 3;
  images.assign(count * height * width * 3, 9);
  return {pixels.data(), static_cast<int64_t>(pixels.size()), pictures.data(), sizes.data(), count, height, width,
          width * 3,     3,                                   1,               images.data()};
}

void values_by_hand() {
  // Two pixels become four: at -0.25, 0.25, 0.75 and 1.25, of which the outermost are the pixels themselves.
  const std::vector<uint8_t> pixels{0, 10, 255, 100, 20, 255};
  std::vector<uint8_t> images;
  fastdet::fit_images_cpu(arguments(pixels, {0, 1, 2}, {1, 4}, 2, 5, images), testing::run_on_two_threads);
  const std::vector<uint8_t> wanted{0, 10, 255, 25, 13, 255, 75, 18, 255, 100, 20, 255, 0, 0, 0,
                                    0, 0,  0,   0,  0,  0,   0,  0,  0,   0,   0,  0,   0, 0, 0};
  EXPECT(images == wanted);
}

void halving_takes_the_mean_of_four() {
  const std::vector<uint8_t> pixels{1, 0, 0, 2, 0, 0, 2, 0, 0, 1, 255, 0};
  std::vector<uint8_t> images;
  fastdet::fit_images_cpu(arguments(pixels, {0, 2, 2}, {1, 1}, 1, 1, images), testing::run_on_two_threads);
  EXPECT(images[0] == 2 && images[1] == 64 && images[2] == 0);
}

void pictures_outside_of_the_bytes_are_black() {
  const std::vector<uint8_t> pixels(12, 200);
  std::vector<uint8_t> images;
  const std::vector<int64_t> pictures{1, 2, 2, 0, int64_t{1} << 61, 8, -3, 1, 1, 0, 2, 2};
  fastdet::fit_images_cpu(arguments(pixels, pictures, {2, 2, 2, 2, 1, 1, 3, 2}, 2, 2, images),
                          testing::run_on_two_threads);
  for (const uint8_t value : images) EXPECT(value == 0);
}

}  // namespace

int main() {
  values_by_hand();
  halving_takes_the_mean_of_four();
  pictures_outside_of_the_bytes_are_black();
  return testing::report();
}
