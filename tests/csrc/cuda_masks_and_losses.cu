// Maximum pooling, masks, overlaps and focal loss on a GPU against their CPU twins.
#include "cuda_testing.h"
#include "kernels/box_iou.h"
#include "kernels/crop_masks.h"
#include "kernels/paste_masks.h"
#include "kernels/roi_max_pool.h"
#include "kernels/sigmoid_focal_loss.h"

namespace {

using testing::boxes_of;
using testing::Device;
using testing::near;
using testing::numbers;
using testing::succeed;

constexpr fastdet::DType kFloat = fastdet::DType::kFloat32;

void maximum_pooling(fastdet::RoiMaxMode mode, bool channels_last) {
  constexpr int64_t kBatch = 2, kChannels = 5, kSide = 13, kRois = 20, kOut = 4;
  const std::vector<float> features = numbers(kBatch * kChannels * kSide * kSide, 1, -1, 1),
                           corners = boxes_of(kRois, 2);
  std::vector<float> rois;
  for (int64_t i = 0; i < kRois; ++i) {
    rois.push_back(static_cast<float>(i % kBatch));
    rois.insert(rois.end(), &corners[4 * i], &corners[4 * i] + 4);
  }
  std::vector<float> copy = features, pooled(kRois * kChannels * kOut * kOut), gradient(features.size(), 0.0f);
  std::vector<int32_t> chosen(pooled.size());
  fastdet::RoiMaxPoolArgs args{};
  args.mode = mode, args.chosen = chosen.data();
  fastdet::RoiAlignArgs& roi = args.roi;
  roi.num_levels = 1, roi.dtype = kFloat, roi.batch = kBatch, roi.channels = kChannels, roi.num_rois = kRois;
  roi.out_h = roi.out_w = kOut, roi.sampling_ratio = 2, roi.aligned = true, roi.finest_scale = 56;
  roi.pooled_channels_last = channels_last;
  fastdet::FeatureLevel& level = roi.levels[0];
  level = {copy.data(), kSide, kSide, kChannels * kSide * kSide, channels_last ? 1 : kSide * kSide,
           channels_last ? kSide * kChannels : kSide, channels_last ? kChannels : 1, 0.25};
  roi.rois = rois.data(), roi.pooled = pooled.data();
  fastdet::roi_max_pool_forward_cpu(args, fastdet::run_serially);
  level.data = gradient.data();
  fastdet::roi_max_pool_backward_cpu(args, fastdet::run_serially);
  const Device<float> device_features(features), device_rois(rois), out(std::vector<float>(pooled.size(), -9.0f)),
      device_gradient(std::vector<float>(gradient.size(), 0.0f));
  const Device<int32_t> device_chosen(std::vector<int32_t>(chosen.size(), -9));
  level.data = device_features.get(), roi.rois = device_rois.get(), roi.pooled = out.get();
  args.chosen = device_chosen.get();
  succeed(fastdet::roi_max_pool_forward_cuda(args, nullptr), "roi_max_pool_forward_cuda");
  near(out.back(), pooled, "roi_max_pool_forward_cuda");
  EXPECT(device_chosen.back() == chosen);
  level.data = device_gradient.get();
  succeed(fastdet::roi_max_pool_backward_cuda(args, nullptr), "roi_max_pool_backward_cuda");
  near(device_gradient.back(), gradient, "roi_max_pool_backward_cuda");
}

void pasting() {
  constexpr int64_t kCount = 9, kSide = 7, kHeight = 33, kWidth = 45;
  const std::vector<float> masks = numbers(kCount * kSide * kSide, 3, 0, 1), boxes = boxes_of(kCount, 4);
  std::vector<uint8_t> pasted(kCount * kHeight * kWidth);
  fastdet::PasteMasksArgs args{masks.data(), boxes.data(), kCount, kSide, kSide, kHeight, kWidth, 0.5f, pasted.data()};
  fastdet::paste_masks_cpu(args, fastdet::run_serially);
  const Device<float> device_masks(masks), device_boxes(boxes);
  const Device<uint8_t> out(std::vector<uint8_t>(pasted.size(), 9));
  args.masks = device_masks.get(), args.boxes = device_boxes.get(), args.pasted = out.get();
  succeed(fastdet::paste_masks_cuda(args, nullptr), "paste_masks_cuda");
  EXPECT(out.back() == pasted);
}

void cropping() {
  constexpr int64_t kBoxes = 8, kSide = 7;
  std::vector<uint8_t> bits(20 * 30 + 11 * 9);
  const std::vector<float> values = numbers(static_cast<int64_t>(bits.size()), 5, 0, 2), boxes = boxes_of(kBoxes, 6);
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint8_t>(values[i]);
  const std::vector<int64_t> offsets{0, 600}, index{0, 1, -1, 0, 1, 1, 0, 0};
  const std::vector<int32_t> windows{5, 7, 30, 20, 40, 2, 9, 11};
  std::vector<float> crops(kBoxes * kSide * kSide);
  fastdet::CropMasksArgs args{bits.data(), static_cast<int64_t>(bits.size()), offsets.data(), windows.data(), 2,
                              index.data(), boxes.data(), kBoxes, kSide, 64, 80, crops.data()};
  fastdet::crop_masks_cpu(args, fastdet::run_serially);
  const Device<uint8_t> device_bits(bits);
  const Device<int64_t> device_offsets(offsets), device_index(index);
  const Device<int32_t> device_windows(windows);
  const Device<float> device_boxes(boxes), out(std::vector<float>(crops.size(), -1.0f));
  args.bits = device_bits.get(), args.offsets = device_offsets.get(), args.windows = device_windows.get();
  args.mask_index = device_index.get(), args.boxes = device_boxes.get(), args.crops = out.get();
  succeed(fastdet::crop_masks_cuda(args, nullptr), "crop_masks_cuda");
  near(out.back(), crops, "crop_masks_cuda");
}

void overlaps(fastdet::Overlap kind) {
  constexpr int64_t kBatch = 2, kRows = 37, kColumns = 11;
  const std::vector<float> first = boxes_of(kBatch * kRows, 7), second = boxes_of(kColumns, 8);
  std::vector<float> values(kBatch * kRows * kColumns);
  fastdet::BoxIouArgs args{kFloat, first.data(), second.data(), true, kBatch, kRows, kColumns, kind, 1e-6,
                           values.data()};
  fastdet::box_iou_cpu(args, fastdet::run_serially);
  const Device<float> device_first(first), device_second(second), out(std::vector<float>(values.size(), -9.0f));
  args.first = device_first.get(), args.second = device_second.get(), args.values = out.get();
  succeed(fastdet::box_iou_cuda(args, nullptr), "box_iou_cuda");
  near(out.back(), values, "box_iou_cuda");
}

void paired_overlaps(fastdet::Overlap kind) {
  constexpr int64_t kCount = 70;
  const std::vector<float> first = boxes_of(kCount, 9), second = boxes_of(kCount, 10),
                           grad = numbers(kCount, 11, -1, 1);
  std::vector<float> values(kCount), of_first(kCount * 4), of_second(kCount * 4);
  fastdet::PairedBoxIouArgs args{kFloat, first.data(), second.data(), kCount, kind, 1e-6, values.data(), grad.data(),
                                 of_first.data(), of_second.data()};
  fastdet::paired_box_iou_cpu(args, fastdet::run_serially);
  fastdet::paired_box_iou_backward_cpu(args, fastdet::run_serially);
  const Device<float> device_first(first), device_second(second), device_grad(grad),
      out(std::vector<float>(kCount, -9.0f)), to_first(std::vector<float>(kCount * 4, -9.0f)),
      to_second(std::vector<float>(kCount * 4, -9.0f));
  args = {kFloat, device_first.get(), device_second.get(), kCount, kind, 1e-6, out.get(), device_grad.get(),
          to_first.get(), to_second.get()};
  succeed(fastdet::paired_box_iou_cuda(args, nullptr), "paired_box_iou_cuda");
  succeed(fastdet::paired_box_iou_backward_cuda(args, nullptr), "paired_box_iou_backward_cuda");
  near(out.back(), values, "paired_box_iou_cuda");
  near(to_first.back(), of_first, "gradient of the first boxes");
  near(to_second.back(), of_second, "gradient of the second boxes");
}

void focal_loss(int64_t rows, int64_t classes) {
  const std::vector<float> logits = numbers(rows * classes, 12, -4, 4), weight = numbers(rows, 13, 0, 2),
                           grad = numbers(rows * classes, 14, -1, 1);
  std::vector<int64_t> labels;
  for (int64_t r = 0; r < rows; ++r) labels.push_back(r % (classes + 1));
  fastdet::SigmoidFocalLossArgs args{kFloat, logits.data(), labels.data(), weight.data(), false, rows, classes, 0.25,
                                     0.75,   1.5};
  std::vector<float> loss(logits.size()), slope(logits.size());
  fastdet::sigmoid_focal_loss_cpu(args, loss.data(), fastdet::run_serially);
  fastdet::sigmoid_focal_loss_backward_cpu(args, grad.data(), false, slope.data(), fastdet::run_serially);
  const std::vector<float> sum{static_cast<float>(fastdet::sigmoid_focal_loss_sum_cpu(args, fastdet::run_serially))};
  const Device<float> device_logits(logits), device_weight(weight), device_grad(grad),
      device_loss(std::vector<float>(loss.size(), -9.0f)), device_slope(std::vector<float>(loss.size(), -9.0f)),
      device_sum(std::vector<float>(1, -9.0f));
  const Device<int64_t> device_labels(labels);
  const Device<double> partial_sums(std::vector<double>(fastdet::kFocalPartialSums, -9.0));
  args.logits = device_logits.get(), args.labels = device_labels.get(), args.weight = device_weight.get();
  succeed(fastdet::sigmoid_focal_loss_cuda(args, device_loss.get(), nullptr), "sigmoid_focal_loss_cuda");
  near(device_loss.back(), loss, "sigmoid_focal_loss_cuda");
  succeed(fastdet::sigmoid_focal_loss_sum_cuda(args, partial_sums.get(), device_sum.get(), nullptr), "its sum");
  near(device_sum.back(), sum, "sigmoid_focal_loss_sum_cuda");
  succeed(fastdet::sigmoid_focal_loss_backward_cuda(args, device_grad.get(), false, device_slope.get(), nullptr),
          "sigmoid_focal_loss_backward_cuda");
  near(device_slope.back(), slope, "sigmoid_focal_loss_backward_cuda");
}

}  // namespace

void test_masks_and_losses() {
  for (const fastdet::RoiMaxMode mode :
       {fastdet::RoiMaxMode::kSamples, fastdet::RoiMaxMode::kRounded, fastdet::RoiMaxMode::kExact}) {
    maximum_pooling(mode, false);
    maximum_pooling(mode, true);
  }
  pasting();
  cropping();
  for (const fastdet::Overlap kind : {fastdet::Overlap::kIou, fastdet::Overlap::kGiou, fastdet::Overlap::kIof}) {
    overlaps(kind);
  }
  for (const fastdet::Overlap kind :
       {fastdet::Overlap::kIou, fastdet::Overlap::kGiou, fastdet::Overlap::kDiou, fastdet::Overlap::kCiou}) {
    paired_overlaps(kind);
  }
  focal_loss(3, 5);
  focal_loss(211, 80);
}
