// Opening a parallel region costs more than a small input is worth: every op computes small inputs on the caller's
// thread, and large ones on all threads.
#include "kernels/anchors.h"
#include "kernels/assign_max_iou.h"
#include "kernels/deform_conv2d.h"
#include "kernels/ms_deform_attn.h"
#include "kernels/nms.h"
#include "kernels/roi_align.h"
#include "testing.h"

namespace {

int regions = 0;

void count_region(int64_t size, int64_t, fastdet::ParallelBody body, void* context) {
  ++regions;
  body(0, size, context);
}

std::vector<float> numbers(int64_t size, float low, float high) {
  testing::Random random(static_cast<uint64_t>(size));
  std::vector<float> values(size);
  for (float& value : values) value = low + (high - low) * random.uniform();
  return values;
}

std::vector<float> boxes_of(int64_t count) {
  std::vector<float> boxes = numbers(count * 4, 0, 100);
  for (int64_t i = 0; i < count; ++i) {
    boxes[4 * i + 2] += boxes[4 * i];
    boxes[4 * i + 3] += boxes[4 * i + 1];
  }
  return boxes;
}

void nms(int64_t per_group) {
  constexpr int64_t kGroups = 8;
  const int64_t size = kGroups * per_group;
  const std::vector<float> boxes = boxes_of(size), scores = numbers(size, 0, 1);
  std::vector<int64_t> groups(size), kept(size);
  for (int64_t i = 0; i < size; ++i) groups[i] = i % kGroups;
  int64_t count = 0;
  fastdet::nms_cpu({boxes.data(), scores.data(), groups.data(), nullptr, 1, size, 0.5f}, size, kept.data(), &count,
                   count_region);
}

void anchors(int64_t side) {
  const std::vector<float> base = numbers(3 * 4, -20, 20);
  std::vector<float> out(side * side * 3 * 4);
  fastdet::GridAnchorsArgs args{};
  args.num_levels = 1, args.num_base = 3, args.total = side * side * 3;
  args.levels[0] = {side, side, 8.0f, 8.0f, 0};
  args.base = base.data(), args.anchors = out.data();
  fastdet::grid_anchors_cpu(args, count_region);
}

void assignment(int64_t count) {
  constexpr int64_t kObjects = 9;
  const std::vector<float> boxes = boxes_of(count), objects = boxes_of(kObjects);
  const bool valid[kObjects] = {true, true, true, true, true, true, true, true, true};
  std::vector<int64_t> index(count);
  std::vector<float> iou(count);
  fastdet::AssignMaxIouArgs args{};
  args.boxes = boxes.data(), args.shared_boxes = true, args.objects = objects.data(), args.valid = valid;
  args.batch = 1, args.num_boxes = count, args.num_objects = kObjects;
  args.positive = 0.5f, args.negative_high = 0.4f, args.match_low_quality = true, args.all_ties = true;
  args.index = index.data(), args.iou = iou.data();
  fastdet::assign_max_iou_cpu(args, count_region);
}

void pooling(int64_t count, int64_t channels) {
  constexpr int64_t kSide = 40, kOut = 7;
  std::vector<float> features = numbers(channels * kSide * kSide, -1, 1), rois;
  const std::vector<float> corners = boxes_of(count);
  for (int64_t i = 0; i < count; ++i) {
    rois.push_back(0.0f);
    rois.insert(rois.end(), &corners[4 * i], &corners[4 * i] + 4);
  }
  std::vector<float> pooled(count * channels * kOut * kOut);
  fastdet::RoiAlignArgs args{};
  args.num_levels = 1, args.dtype = fastdet::DType::kFloat32, args.batch = 1, args.channels = channels;
  args.levels[0] = {features.data(), kSide, kSide, channels * kSide * kSide, 1, kSide * channels, channels, 0.25};
  args.rois = rois.data(), args.num_rois = count, args.out_h = args.out_w = kOut, args.sampling_ratio = 2;
  args.finest_scale = 56, args.pooled = pooled.data(), args.pooled_channels_last = true;
  fastdet::roi_align_forward_cpu(args, count_region);
  fastdet::roi_align_backward_cpu(args, count_region);
}

void convolution(int64_t channels, int64_t side) {
  fastdet::DeformConv2dArgs args{};
  args.dtype = fastdet::DType::kFloat32, args.batch = 1, args.channels = args.out_channels = channels;
  args.height = args.width = args.out_h = args.out_w = side, args.kernel_h = args.kernel_w = 3;
  args.stride_h = args.stride_w = args.padding_h = args.padding_w = args.dilation_h = args.dilation_w = 1;
  args.groups = args.offset_groups = 1;
  const int64_t cells = side * side * channels;
  const std::vector<float> input = numbers(cells, -1, 1), offset = numbers(side * side * 18, -1, 1),
                           weight = numbers(channels * channels * 9, -1, 1);
  std::vector<float> out(cells), of_input(cells, 0.0f), of_offset(offset.size()), of_weight(weight.size());
  args.input = input.data(), args.offset = offset.data(), args.weight = weight.data();
  fastdet::deform_conv2d_forward_cpu(args, out.data(), true, count_region);
  fastdet::deform_conv2d_backward_cpu(
      args, {out.data(), of_input.data(), of_offset.data(), nullptr, of_weight.data()}, count_region);
}

void attention(int64_t queries) {
  fastdet::MsDeformAttnArgs args{};
  args.dtype = fastdet::DType::kFloat32, args.batch = 1, args.queries = queries, args.heads = 4, args.channels = 16;
  args.points = 4, args.num_levels = 1, args.cells = 400;
  args.levels[0] = {20, 20, 0};
  const std::vector<float> value = numbers(400 * 4 * 16, -1, 1), locations = numbers(queries * 4 * 4 * 2, 0, 1),
                           weights = numbers(queries * 4 * 4, 0, 1);
  std::vector<float> out(queries * 64), of_value(value.size(), 0.0f), of_locations(locations.size()),
      of_weights(weights.size());
  args.value = value.data(), args.locations = locations.data(), args.weights = weights.data();
  fastdet::ms_deform_attn_forward_cpu(args, out.data(), count_region);
  fastdet::ms_deform_attn_backward_cpu(args, {out.data(), of_value.data(), of_locations.data(), of_weights.data()},
                                       count_region);
}

int regions_of(void (*op)(int64_t), int64_t size) {
  regions = 0;
  op(size);
  return regions;
}

}  // namespace

int main() {
  EXPECT(regions_of(nms, 25) == 0);
  EXPECT(regions_of(nms, 1500) == 1);
  EXPECT(regions_of(anchors, 30) == 0);
  EXPECT(regions_of(anchors, 900) == 1);
  EXPECT(regions_of(assignment, 2000) == 0);
  EXPECT(regions_of(assignment, 200000) == 2);  // the best object of each box, and each object's best boxes
  regions = 0, pooling(4, 16);
  EXPECT(regions == 0);
  regions = 0, pooling(300, 256);
  EXPECT(regions == 3);  // the RoIs, their weights, and the gradient of each plane
  regions = 0, convolution(8, 8);
  EXPECT(regions == 0);
  regions = 0, convolution(128, 40);
  EXPECT(regions >= 2);
  EXPECT(regions_of(attention, 10) == 0);
  EXPECT(regions_of(attention, 5000) == 2);
  return testing::report();
}
