// Mask crops on the CPU: the samples of a box's rows and columns are placed once, then combined.
#include "crop_masks.h"

#include <algorithm>
#include <vector>

namespace fastdet {
namespace {

// Samples of all bins of one axis: bin p has samples[begin[p]] .. samples[begin[p + 1] - 1].
class AxisSamples {
 public:
  void place(const RoiAxis<float>& axis, int64_t bins, int start, int length, int image_size) {
    begin_.clear();
    samples_.clear();
    for (int64_t bin = 0; bin < bins; ++bin) {
      begin_.push_back(samples_.size());
      const SampleRange range = samples_near(axis, bin, start, length);
      for (int64_t i = range.begin; i < range.end; ++i) {
        const AxisSample<float> sample = axis_sample(sample_position(axis, bin, i), image_size);
        if (sample.low_weight != 0.0f || sample.high_weight != 0.0f) samples_.push_back(sample);
      }
    }
    begin_.push_back(samples_.size());
  }

  const AxisSample<float>* begin(int64_t bin) const { return samples_.data() + begin_[bin]; }
  const AxisSample<float>* end(int64_t bin) const { return samples_.data() + begin_[bin + 1]; }

 private:
  std::vector<size_t> begin_;
  std::vector<AxisSample<float>> samples_;
};

void crop_mask(const CropMasksArgs& args, int64_t mask, const float* box, AxisSamples& ys, AxisSamples& xs,
               float* crop) {
  const MaskWindow window = mask_window(args, mask);
  const RoiAxis<float> y_axis = roi_axis(box[1], box[3], 1.0f, args.side, 0, true);
  const RoiAxis<float> x_axis = roi_axis(box[0], box[2], 1.0f, args.side, 0, true);
  ys.place(y_axis, args.side, window.y0, window.height, static_cast<int>(args.image_h));
  xs.place(x_axis, args.side, window.x0, window.width, static_cast<int>(args.image_w));
  const float count = sample_count(y_axis, x_axis);
  for (int64_t bin_y = 0; bin_y < args.side; ++bin_y) {
    for (int64_t bin_x = 0; bin_x < args.side; ++bin_x) {
      float sum = 0.0f;
      for (const AxisSample<float>* y = ys.begin(bin_y); y != ys.end(bin_y); ++y) {
        for (const AxisSample<float>* x = xs.begin(bin_x); x != xs.end(bin_x); ++x) {
          sum = exact_add(sum, mask_sample(window, *y, *x));
        }
      }
      *crop++ = sum / count;
    }
  }
}

// A bin holds at least one sample for each pixel that it covers; about 3 ns a sample.
int64_t crop_nanoseconds(const CropMasksArgs& args) {
  double pixels = 0.0;
  for (int64_t i = 0; i < args.num_boxes; ++i) {
    const float* box = args.boxes + i * 4;
    const double area = static_cast<double>(box[2] - box[0]) * static_cast<double>(box[3] - box[1]);
    // Not more than the image can hold, and not less than the crop: also for boxes that are not finite.
    const double image = static_cast<double>(args.image_h) * static_cast<double>(args.image_w);
    pixels += area > 0.0 && area < image ? area : 0.0;
    pixels += static_cast<double>(args.side * args.side);
  }
  return static_cast<int64_t>(3.0 * pixels / static_cast<double>(std::max<int64_t>(1, args.num_boxes))) + 1;
}

}  // namespace

int64_t crop_masks_first_bad_box(const CropMasksArgs& args) {
  for (int64_t i = 0; i < args.num_boxes; ++i) {
    if (args.mask_index[i] >= 0 && !has_mask(args, args.mask_index[i])) return i;
  }
  return -1;
}

void crop_masks_cpu(const CropMasksArgs& args, ParallelRunner run) {
  const int64_t pixels = args.side * args.side;
  const int64_t grain = std::max<int64_t>(1, kMinTaskNanoseconds / crop_nanoseconds(args));
  parallel_for(run, args.num_boxes, grain, [&](int64_t begin, int64_t end) {
    AxisSamples ys;
    AxisSamples xs;
    for (int64_t i = begin; i < end; ++i) {
      float* crop = args.crops + i * pixels;
      if (args.mask_index[i] < 0) {
        std::fill(crop, crop + pixels, 0.0f);
      } else {
        crop_mask(args, args.mask_index[i], args.boxes + i * 4, ys, xs, crop);
      }
    }
  });
}

}  // namespace fastdet
