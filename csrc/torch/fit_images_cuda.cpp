// fit_images on the GPU.
#include "cuda_common.h"
#include "fit_images.h"

namespace fastdet {
namespace {

Tensor fit_images(const Tensor& pixels, const Tensor& pictures, const Tensor& sizes, int64_t height, int64_t width,
                  bool channels_first) {
  const DeviceGuard guard(pixels.get_device_index());
  FitImagesArguments arguments(pixels, pictures, sizes, height, width, channels_first);
  check_cuda("fit_images", fit_images_cuda(arguments.args, current_stream(pixels)));
  return arguments.images;
}

}  // namespace
}  // namespace fastdet

STABLE_TORCH_LIBRARY_IMPL(fastdet, CUDA, m) { m.impl("fit_images", TORCH_BOX(&fastdet::fit_images)); }
