// fit_images on the CPU.
#include "fit_images.h"

namespace fastdet {
namespace {

Tensor fit_images(const Tensor& pixels, const Tensor& pictures, const Tensor& sizes, int64_t height, int64_t width,
                  bool channels_first) {
  FitImagesArguments arguments(pixels, pictures, sizes, height, width, channels_first);
  const FitImagesArgs& args = arguments.args;
  for (int64_t i = 0; i < args.count; ++i) {
    const int64_t* place = args.pictures + i * 3;
    const int64_t* size = args.sizes + i * 2;
    check(fit_is_within(args, place, size), "picture ", i, " of ", place[1], " x ", place[2], " pixels from byte ",
          place[0], " does not lie within the ", args.num_pixels, " bytes, or its new size ", size[0], " x ", size[1],
          " is not within ", height, " x ", width);
  }
  if (args.count > 0) fit_images_cpu(args, run_in_torch_pool);
  return arguments.images;
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CPU, m) { m.impl("fit_images", TORCH_BOX(&fastdet::fit_images)); }
