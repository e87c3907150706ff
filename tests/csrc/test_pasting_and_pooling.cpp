// Pasted masks and maximum pooling: every pixel and every bin against the definition.
#include "kernels/paste_masks.h"
#include "kernels/roi_max_pool.h"
#include "testing.h"

namespace {

void every_pixel_is_the_blend_of_four_cells() {
  testing::Random random(1);
  constexpr int64_t kCount = 12, kSide = 7, kHeight = 33, kWidth = 45;
  std::vector<float> masks(kCount * kSide * kSide), boxes;
  for (float& value : masks) value = random.uniform();
  for (int64_t i = 0; i < kCount; ++i) {
    const float x = random.uniform() * 60 - 10, y = random.uniform() * 50 - 10;
    boxes.insert(boxes.end(), {x, y, x + random.uniform() * 40, y + random.uniform() * 40});
  }
  std::vector<uint8_t> pasted(kCount * kHeight * kWidth, 9);
  const fastdet::PasteMasksArgs args{masks.data(), boxes.data(), kCount, kSide, kSide, kHeight, kWidth, 0.5f, pasted.data()};
  fastdet::paste_masks_cpu(args, testing::run_on_two_threads);
  for (int64_t i = 0; i < kCount; ++i) {
    const float* box = &boxes[i * 4];
    const fastdet::PasteWindow xs = fastdet::paste_window(box[0], box[2], kWidth);
    const fastdet::PasteWindow ys = fastdet::paste_window(box[1], box[3], kHeight);
    for (int64_t y = 0; y < kHeight; ++y) {
      for (int64_t x = 0; x < kWidth; ++x) {
        const fastdet::PasteSample column = fastdet::paste_sample(x, box[0], box[2], kSide);
        const fastdet::PasteSample row = fastdet::paste_sample(y, box[1], box[3], kSide);
        const float* mask = &masks[i * kSide * kSide];
        const auto cell = [&](int64_t r, int64_t c) { return mask[r * kSide + c]; };
        const float value = row.weight * (column.weight * cell(row.cell, column.cell) +
                                          column.next_weight * cell(row.cell, column.next)) +
                            row.next_weight * (column.weight * cell(row.next, column.cell) +
                                               column.next_weight * cell(row.next, column.next));
        const bool inside = x >= xs.begin && x < xs.end && y >= ys.begin && y < ys.end;
        const uint8_t found = pasted[(i * kHeight + y) * kWidth + x];
        EXPECT(found == (inside && value >= 0.5f ? 1 : 0) || std::abs(value - 0.5f) < 1e-6f);
      }
    }
  }
}

void the_maximum_of_cells_does_not_depend_on_the_layout() {
  testing::Random random(2);
  constexpr int64_t kChannels = 21, kHeight = 9, kWidth = 11, kRois = 10, kBins = 6;
  std::vector<float> planes(2 * kChannels * kHeight * kWidth), rows(planes.size()), rois;
  for (int64_t n = 0; n < 2; ++n) {
    for (int64_t c = 0; c < kChannels; ++c) {
      for (int64_t i = 0; i < kHeight * kWidth; ++i) {
        const float value = random.uniform() - 0.5f;
        planes[(n * kChannels + c) * kHeight * kWidth + i] = value;
        rows[(n * kHeight * kWidth + i) * kChannels + c] = value;
      }
    }
  }
  for (int64_t i = 0; i < kRois; ++i) {
    const float x = random.uniform() * 30 - 8, y = random.uniform() * 30 - 8;
    rois.insert(rois.end(), {static_cast<float>(i % 2), x, y, x + random.uniform() * 30, y + random.uniform() * 30});
  }
  for (const fastdet::RoiMaxMode mode :
       {fastdet::RoiMaxMode::kSamples, fastdet::RoiMaxMode::kRounded, fastdet::RoiMaxMode::kExact}) {
    std::vector<float> first(kRois * kChannels * kBins), second(first.size());
    std::vector<int32_t> first_chosen(first.size()), second_chosen(first.size());
    for (const bool innermost : {false, true}) {
      fastdet::RoiMaxPoolArgs args{};
      args.mode = mode;
      args.chosen = innermost ? second_chosen.data() : first_chosen.data();
      args.roi.levels[0] = {innermost ? rows.data() : planes.data(), kHeight, kWidth, kChannels * kHeight * kWidth,
                            innermost ? 1 : kHeight * kWidth, innermost ? kWidth * kChannels : kWidth,
                            innermost ? kChannels : 1, 0.5};
      args.roi.num_levels = 1;
      args.roi.dtype = fastdet::DType::kFloat32;
      args.roi.batch = 2;
      args.roi.channels = kChannels;
      args.roi.rois = rois.data();
      args.roi.num_rois = kRois;
      args.roi.out_h = 2;
      args.roi.out_w = 3;
      args.roi.sampling_ratio = 2;
      args.roi.aligned = true;
      args.roi.finest_scale = 56.0;
      args.roi.pooled = innermost ? second.data() : first.data();
      args.roi.pooled_channels_last = innermost;
      fastdet::roi_max_pool_forward_cpu(args, testing::run_on_two_threads);
      std::vector<float> gradient(planes.size(), 0.0f);
      args.roi.levels[0].data = gradient.data();
      fastdet::roi_max_pool_backward_cpu(args, testing::run_on_two_threads);
      double sum = 0.0, wanted = 0.0;
      for (const float value : gradient) sum += value;
      // Weights of a sample inside the map add up to 1.
      if (mode != fastdet::RoiMaxMode::kSamples) {
        for (size_t i = 0; i < first.size(); ++i) wanted += args.chosen[i] >= 0 ? (innermost ? second : first)[i] : 0.0f;
        EXPECT(std::abs(sum - wanted) < 1e-3);
      }
    }
    for (int64_t r = 0; r < kRois; ++r) {
      for (int64_t c = 0; c < kChannels; ++c) {
        for (int64_t bin = 0; bin < kBins; ++bin) {
          const int64_t a = (r * kChannels + c) * kBins + bin, b = (r * kBins + bin) * kChannels + c;
          EXPECT(std::abs(first[a] - second[b]) < 1e-6f);
          EXPECT(first_chosen[a] == second_chosen[b] || mode == fastdet::RoiMaxMode::kSamples);
        }
      }
    }
  }
}

}  // namespace

int main() {
  every_pixel_is_the_blend_of_four_cells();
  the_maximum_of_cells_does_not_depend_on_the_layout();
  return testing::report();
}
