// Each CUDA kernel against its CPU twin on small inputs; also what compute-sanitizer watches. Ends with 77, which ctest
// takes for skipped, where no GPU is.
#include "cuda_testing.h"
#include "kernels/anchors.h"
#include "kernels/assign_max_iou.h"
#include "kernels/deform_conv2d.h"
#include "kernels/fit_images.h"
#include "kernels/ms_deform_attn.h"
#include "kernels/roi_align.h"

namespace {

using testing::boxes_of;
using testing::Device;
using testing::near;
using testing::numbers;
using testing::succeed;

constexpr int kSkipped = 77;

void anchors() {
  const std::vector<float> base = numbers(2 * 3 * 4, 3, -20, 20);
  fastdet::GridAnchorsArgs args{};
  args.num_levels = 2, args.num_base = 3, args.total = (7 * 5 + 3 * 2) * 3;
  args.levels[0] = {7, 5, 8.0f, 8.0f, 0};
  args.levels[1] = {3, 2, 16.0f, 17.0f, 7 * 5 * 3};
  std::vector<float> expected(args.total * 4);
  args.base = base.data(), args.anchors = expected.data();
  fastdet::grid_anchors_cpu(args, fastdet::run_serially);
  const Device<float> device_base(base), out(std::vector<float>(expected.size()));
  args.base = device_base.get(), args.anchors = out.get();
  succeed(fastdet::grid_anchors_cuda(args, nullptr), "grid_anchors_cuda");
  EXPECT(out.back() == expected);
}

void resizing() {
  constexpr int64_t kHeight = 40, kWidth = 50;
  std::vector<uint8_t> pixels(3 * (31 * 23 + 20 * 64 + 2 * 3));
  const std::vector<float> values = numbers(static_cast<int64_t>(pixels.size()), 11, 0, 256);
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<uint8_t>(values[i]);
  // Enlarged, halved, and one that does not lie within the bytes.
  const std::vector<int64_t> pictures{0, 31, 23, 3 * 31 * 23, 20, 64, 3 * (31 * 23 + 20 * 64), 2, 4};
  const std::vector<int64_t> sizes{40, 30, 10, 32, 5, 5};
  std::vector<uint8_t> expected(3 * kHeight * kWidth * 3);
  fastdet::FitImagesArgs args{pixels.data(), static_cast<int64_t>(pixels.size()), pictures.data(), sizes.data(), 3,
                              kHeight,       kWidth,                              kWidth * 3,      3,            1,
                              expected.data()};
  fastdet::fit_images_cpu(args, fastdet::run_serially);
  const Device<uint8_t> device_pixels(pixels), out(std::vector<uint8_t>(expected.size(), 9));
  const Device<int64_t> device_pictures(pictures), device_sizes(sizes);
  args.pixels = device_pixels.get(), args.pictures = device_pictures.get(), args.sizes = device_sizes.get();
  args.images = out.get();
  succeed(fastdet::fit_images_cuda(args, nullptr), "fit_images_cuda");
  EXPECT(out.back() == expected);
}

void assignment() {
  constexpr int64_t kBatch = 2, kBoxes = 1500, kObjects = 7;
  const std::vector<float> boxes = boxes_of(kBoxes, 4), objects = boxes_of(kBatch * kObjects, 5);
  const std::vector<uint8_t> valid(kBatch * kObjects, 1);
  std::vector<int64_t> index(kBatch * kBoxes);
  std::vector<float> iou(kBatch * kBoxes);
  fastdet::AssignMaxIouArgs args{};
  args.boxes = boxes.data(), args.shared_boxes = true, args.objects = objects.data();
  args.valid = reinterpret_cast<const bool*>(valid.data());
  args.batch = kBatch, args.num_boxes = kBoxes, args.num_objects = kObjects;
  args.positive = 0.5f, args.negative_high = 0.4f, args.match_low_quality = true, args.all_ties = true;
  args.index = index.data(), args.iou = iou.data();
  fastdet::assign_max_iou_cpu(args, fastdet::run_serially);
  const Device<float> device_boxes(boxes), device_objects(objects), device_iou(std::vector<float>(iou.size()));
  const Device<uint8_t> device_valid(valid);
  const Device<int64_t> device_index(std::vector<int64_t>(index.size()));
  const Device<uint64_t> best{std::vector<uint64_t>(kBatch * kObjects)};
  args.boxes = device_boxes.get(), args.objects = device_objects.get();
  args.valid = reinterpret_cast<const bool*>(device_valid.get());
  args.index = device_index.get(), args.iou = device_iou.get();
  succeed(fastdet::assign_max_iou_cuda(args, best.get(), nullptr), "assign_max_iou_cuda");
  EXPECT(device_index.back() == index);
  EXPECT(device_iou.back() == iou);
}

void pooling(int64_t channels, bool channels_last) {
  constexpr int64_t kBatch = 2, kSide = 19, kRois = 30, kOut = 7;
  const int64_t cells = kBatch * channels * kSide * kSide;
  const std::vector<float> features = numbers(cells, 6, -1, 1), corners = boxes_of(kRois, 7);
  std::vector<float> rois;
  for (int64_t i = 0; i < kRois; ++i) {
    rois.push_back(static_cast<float>(i % kBatch));
    rois.insert(rois.end(), &corners[4 * i], &corners[4 * i] + 4);
  }
  fastdet::RoiAlignArgs args{};
  args.num_levels = 1, args.dtype = fastdet::DType::kFloat32, args.batch = kBatch, args.channels = channels;
  args.num_rois = kRois, args.out_h = args.out_w = kOut, args.sampling_ratio = 2, args.aligned = true;
  args.finest_scale = 56, args.pooled_channels_last = channels_last;
  fastdet::FeatureLevel& level = args.levels[0];
  level = {nullptr, kSide, kSide, channels * kSide * kSide, channels_last ? 1 : kSide * kSide,
           channels_last ? kSide * channels : kSide, channels_last ? channels : 1, 0.25};
  std::vector<float> copy = features, pooled(kRois * channels * kOut * kOut), gradient(cells, 0.0f);
  level.data = copy.data(), args.rois = rois.data(), args.pooled = pooled.data();
  fastdet::roi_align_forward_cpu(args, fastdet::run_serially);
  level.data = gradient.data();
  fastdet::roi_align_backward_cpu(args, fastdet::run_serially);
  const Device<float> device_features(features), device_rois(rois), device_pooled(pooled),
      device_gradient{std::vector<float>(cells, -1.0f)};
  level.data = device_features.get(), args.rois = device_rois.get(), args.pooled = device_pooled.get();
  succeed(fastdet::roi_align_forward_cuda(args, nullptr), "roi_align_forward_cuda");
  near(device_pooled.back(), pooled, "roi_align_forward_cuda");
  level.data = device_gradient.get();
  succeed(fastdet::roi_align_backward_cuda(args, nullptr), "roi_align_backward_cuda");
  near(device_gradient.back(), gradient, "roi_align_backward_cuda");
}

void attention(int64_t channels) {
  fastdet::MsDeformAttnArgs args{};
  args.dtype = fastdet::DType::kFloat32, args.batch = 3, args.queries = 13, args.heads = 2, args.channels = channels;
  args.points = 3, args.num_levels = 2, args.cells = 9 * 7 + 4 * 3;
  args.levels[0] = {9, 7, 0};
  args.levels[1] = {4, 3, 63};
  const int64_t samples = args.batch * args.queries * args.heads * args.samples();
  const int64_t results = args.batch * args.queries * args.heads * channels;
  const std::vector<float> value = numbers(args.batch * args.cells * args.heads * channels, 8, -1, 1),
                           locations = numbers(2 * samples, 9, -0.2f, 1.2f), weights = numbers(samples, 10, 0, 1),
                           slope = numbers(results, 11, -1, 1);
  std::vector<float> out(results), of_value(value.size(), 0.0f), of_locations(locations.size()),
      of_weights(weights.size());
  args.value = value.data(), args.locations = locations.data(), args.weights = weights.data();
  fastdet::ms_deform_attn_forward_cpu(args, out.data(), fastdet::run_serially);
  fastdet::ms_deform_attn_backward_cpu(
      args, {slope.data(), of_value.data(), of_locations.data(), of_weights.data()}, fastdet::run_serially);
  const Device<float> device_value(value), device_locations(locations), device_weights(weights), device_slope(slope),
      device_out(std::vector<float>(out.size(), -1.0f)), value_gradient(std::vector<float>(value.size(), 0.0f)),
      location_gradient(std::vector<float>(locations.size(), -1.0f)),
      weight_gradient(std::vector<float>(weights.size(), -1.0f));
  args.value = device_value.get(), args.locations = device_locations.get(), args.weights = device_weights.get();
  succeed(fastdet::ms_deform_attn_forward_cuda(args, device_out.get(), nullptr), "ms_deform_attn_forward_cuda");
  near(device_out.back(), out, "ms_deform_attn_forward_cuda");
  const fastdet::MsDeformAttnGradients gradients{device_slope.get(), value_gradient.get(), location_gradient.get(),
                                                 weight_gradient.get()};
  succeed(fastdet::ms_deform_attn_backward_cuda(args, gradients, nullptr), "ms_deform_attn_backward_cuda");
  near(value_gradient.back(), of_value, "gradient of the values");
  near(location_gradient.back(), of_locations, "gradient of the locations");
  near(weight_gradient.back(), of_weights, "gradient of the weights");
}

// The columns, through a convolution with the identity on the CPU: tap k of channel c is output channel k * C + c.
void columns(int64_t channels) {
  fastdet::DeformConv2dArgs args{};
  args.dtype = fastdet::DType::kFloat32, args.batch = 2, args.channels = channels, args.height = 9, args.width = 7;
  args.kernel_h = args.kernel_w = 3, args.stride_h = args.stride_w = 1, args.padding_h = args.padding_w = 1;
  args.dilation_h = args.dilation_w = 1, args.groups = args.offset_groups = 1, args.out_h = 9, args.out_w = 7;
  args.out_channels = args.taps() * channels;
  const int64_t rows = args.batch * args.positions();
  const std::vector<float> input = numbers(args.batch * 63 * channels, 12, -1, 1),
                           offset = numbers(rows * 18, 13, -2, 2), mask = numbers(rows * 9, 14, 0, 1),
                           slopes = numbers(rows * args.out_channels, 15, -1, 1);
  std::vector<float> weight(args.out_channels * channels * args.taps(), 0.0f);
  for (int64_t k = 0; k < args.taps(); ++k) {
    for (int64_t c = 0; c < channels; ++c) weight[((k * channels + c) * channels + c) * args.taps() + k] = 1.0f;
  }
  std::vector<float> out(rows * args.out_channels), of_input(input.size(), 0.0f), of_offset(offset.size()),
      of_mask(mask.size()), of_weight(weight.size());
  args.input = input.data(), args.offset = offset.data(), args.mask = mask.data(), args.weight = weight.data();
  fastdet::deform_conv2d_forward_cpu(args, out.data(), true, fastdet::run_serially);
  fastdet::deform_conv2d_backward_cpu(
      args, {slopes.data(), of_input.data(), of_offset.data(), of_mask.data(), of_weight.data()},
      fastdet::run_serially);
  const Device<float> device_input(input), device_offset(offset), device_mask(mask), device_slopes(slopes),
      device_columns(std::vector<float>(out.size(), -1.0f)), input_gradient(std::vector<float>(input.size(), 0.0f)),
      offset_gradient(std::vector<float>(offset.size(), -1.0f)), mask_gradient(std::vector<float>(mask.size(), -1.0f));
  args.input = device_input.get(), args.offset = device_offset.get(), args.mask = device_mask.get();
  succeed(fastdet::deform_conv2d_columns_cuda(args, {0, rows}, device_columns.get(), nullptr), "columns");
  near(device_columns.back(), out, "deform_conv2d_columns_cuda");
  const fastdet::DeformConv2dGradients gradients{nullptr, input_gradient.get(), offset_gradient.get(),
                                                 mask_gradient.get(), nullptr};
  const auto scatter = [&](const fastdet::DeformFixedPoint& fixed) {
    succeed(fastdet::deform_conv2d_scatter_cuda(args, {0, rows}, device_slopes.get(), gradients, fixed, nullptr),
            "scatter");
    return input_gradient.back();
  };
  near(scatter({nullptr, nullptr}), of_input, "gradient of the input");
  const Device<int64_t> sums(std::vector<int64_t>(input.size(), 0));
  const Device<uint64_t> bounds(std::vector<uint64_t>(2, 7));
  for (float& value : of_input) value *= 2.0f;  // it is added a second time
  near(scatter({sums.get(), bounds.get()}), of_input, "gradient of the input, in integers");
  EXPECT(sums.back() == std::vector<int64_t>(input.size(), 0));
  near(offset_gradient.back(), of_offset, "gradient of the offsets");
  near(mask_gradient.back(), of_mask, "gradient of the masks");
}

}  // namespace

int main() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("no GPU here\n");
    return kSkipped;
  }
  test_postprocessing();
  test_masks_and_losses();
  anchors();
  resizing();
  assignment();
  for (const int64_t channels : {3, 16, 40}) {
    pooling(channels, false);
    pooling(channels, true);
    attention(channels);
    columns(channels);
  }
  return testing::report();
}
