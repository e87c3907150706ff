// Pasted masks on the CPU: each mask is widened along x once, then every pixel row blends two of its rows.
#include "paste_masks.h"

#include <algorithm>
#include <vector>

#include "cpu_kernels.h"

namespace fastdet {
namespace {

void paste(const PasteMasksArgs& args, int64_t index, std::vector<float>& wide) {
  const float* mask = args.masks + index * args.side_h * args.side_w;
  const float* box = args.boxes + index * 4;
  uint8_t* image = args.pasted + index * args.height * args.width;
  const PasteWindow xs = paste_window(box[0], box[2], args.width);
  const PasteWindow ys = paste_window(box[1], box[3], args.height);
  const int64_t width = xs.end - xs.begin;
  if (width == 0 || ys.end == ys.begin) {
    std::fill(image, image + args.height * args.width, uint8_t{0});
    return;
  }
  const int64_t stride = (width + kLinePadding - 1) / kLinePadding * kLinePadding;
  wide.assign(args.side_h * stride, 0.0f);
  for (int64_t x = 0; x < width; ++x) {
    const PasteSample sample = paste_sample(xs.begin + x, box[0], box[2], args.side_w);
    for (int64_t row = 0; row < args.side_h; ++row) {
      const float* cells = mask + row * args.side_w;
      wide[row * stride + x] = sample.weight * cells[sample.cell] + sample.next_weight * cells[sample.next];
    }
  }
  const CpuKernels& kernels = cpu_kernels();
  std::fill(image, image + ys.begin * args.width, uint8_t{0});
  for (int64_t y = ys.begin; y < ys.end; ++y) {
    const PasteSample sample = paste_sample(y, box[1], box[3], args.side_h);
    uint8_t* row = image + y * args.width;
    std::fill(row, row + xs.begin, uint8_t{0});
    kernels.paste_row(wide.data() + sample.cell * stride, wide.data() + sample.next * stride, sample.weight,
                      sample.next_weight, args.threshold, width, row + xs.begin);
    std::fill(row + xs.end, row + args.width, uint8_t{0});
  }
  std::fill(image + ys.end * args.width, image + args.height * args.width, uint8_t{0});
}

}  // namespace

void paste_masks_cpu(const PasteMasksArgs& args, ParallelRunner run) {
  // An image of zeros is written at about 10 bytes a nanosecond; boxes cost about as much.
  const int64_t nanoseconds = std::max<int64_t>(1, args.height * args.width / 5);
  parallel_for(run, args.count, std::max<int64_t>(1, kMinTaskNanoseconds / nanoseconds),
               [&](int64_t begin, int64_t end) {
                 std::vector<float> wide;
                 for (int64_t index = begin; index < end; ++index) paste(args, index, wide);
               });
}

}  // namespace fastdet
