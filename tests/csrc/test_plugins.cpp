// The kernels of TensorRT's plugins, emulated on the CPU, against the CPU kernels of the ops: the same source, entry
// points and parameters that NVRTC compiles for a GPU.
#include <cuda_runtime.h>

#include <limits>
#include <numeric>

#include "kernels/deform_conv2d.h"
#include "kernels/half.h"
#include "kernels/nms.h"
#include "kernels/roi_align.h"

#define FASTDET_IOU_THRESHOLD 0.5
#define FASTDET_MAX_OUTPUT 300
#define FASTDET_SHARED_GROUPS 0
#include "plugins/nms.cu"

#define FASTDET_FEATURE __half
#define FASTDET_LEVELS 3
#define FASTDET_SCALES {0.25, 0.125, 0.0625}
#define FASTDET_OUT_H 3
#define FASTDET_OUT_W 2
#define FASTDET_SAMPLING_RATIO 0
#define FASTDET_ALIGNED 1
#define FASTDET_FINEST_SCALE 16.0
#include "plugins/roi_align.cu"

#undef FASTDET_FEATURE
#define FASTDET_FEATURE float
#define FASTDET_MASK 1
#define FASTDET_OFFSET_GROUPS 2
#define FASTDET_KERNEL_H 3
#define FASTDET_KERNEL_W 2
#define FASTDET_STRIDE_H 2
#define FASTDET_STRIDE_W 1
#define FASTDET_PADDING_H 1
#define FASTDET_PADDING_W 2
#define FASTDET_DILATION_H 1
#define FASTDET_DILATION_W 2
#include "plugins/deform_columns.cu"

#include "testing.h"

namespace {

using emulated::Order;

constexpr Order kOrders[] = {Order::kDownwards, Order::kUpwards, Order::kShuffled};

struct Case {
  std::vector<float> boxes, scores;
  std::vector<int32_t> groups, valid;
  int64_t batch, size;
};

Case random_case(int64_t batch, int64_t size, uint64_t seed, float steps, float share_valid, float extent) {
  testing::Random random(seed);
  Case c{{}, {}, {}, {}, batch, size};
  for (int64_t i = 0; i < batch * size; ++i) {
    const float x = random.uniform() * extent - 50, y = random.uniform() * extent - 50;
    c.boxes.insert(c.boxes.end(), {x, y, x + random.uniform() * 40, y + random.uniform() * 40});
    c.scores.push_back(steps > 0 ? std::floor(random.uniform() * steps) / steps : random.uniform());
    c.groups.push_back(static_cast<int32_t>(random.uniform() * 4) - 2);
    c.valid.push_back(random.uniform() < share_valid ? 1 : 0);
  }
  return c;
}

struct Kept {
  std::vector<int32_t> index, counts, exact;
};

Kept emulated_nms(const Case& c, const fastdet::NmsPluginArgs& options, bool by_entry, Order order) {
  Kept kept;
  const int64_t slots = c.batch * options.max_output;
  kept.index.assign(slots, -7), kept.counts.assign(c.batch, -7), kept.exact.assign(c.batch, -7);
  std::vector<float4> boxes(c.batch * c.size), kept_boxes(slots);  // aligned as TensorRT's are
  for (size_t i = 0; i < boxes.size(); ++i) {
    boxes[i] = {c.boxes[4 * i], c.boxes[4 * i + 1], c.boxes[4 * i + 2], c.boxes[4 * i + 3]};
  }
  std::vector<int32_t> kept_groups(slots);
  fastdet::NmsPluginArgs args = options;
  args.boxes = &boxes.data()->x, args.scores = c.scores.data();
  args.groups = c.groups.data(), args.valid = c.valid.data();
  args.size = static_cast<int32_t>(c.size);
  args.kept = kept.index.data(), args.counts = kept.counts.data(), args.exact = kept.exact.data();
  args.kept_boxes = &kept_boxes.data()->x, args.kept_groups = kept_groups.data();
  emulated::launch({static_cast<unsigned>(c.batch), 1, 1}, fastdet::kWalkThreads, order, [&] {
    if (by_entry) {
      fastdet_nms(args.boxes, args.scores, args.groups, args.valid, args.size, args.kept, args.counts, args.exact,
                  args.kept_boxes, args.kept_groups);
    } else {
      fastdet::nms_plugin(args);
    }
  });
  return kept;
}

void equals_the_op(const Case& c, int32_t max_output, float threshold, bool shared_groups, bool by_entry,
                   const std::vector<Order>& orders) {
  std::vector<int64_t> groups(c.batch * c.size);
  std::vector<char> valid(groups.size());
  for (size_t i = 0; i < groups.size(); ++i) {
    groups[i] = c.groups[shared_groups ? i % c.size : i];
    valid[i] = c.valid[i] != 0;
  }
  std::vector<int64_t> kept(c.batch * max_output), counts(c.batch);
  const fastdet::NmsInput input{c.boxes.data(), c.scores.data(), groups.data(),
                                reinterpret_cast<const bool*>(valid.data()), c.batch, c.size, threshold};
  fastdet::nms_cpu(input, max_output, kept.data(), counts.data(), fastdet::run_serially);
  fastdet::NmsPluginArgs options{};
  options.max_output = max_output, options.threshold = threshold, options.shared_groups = shared_groups;
  for (const Order order : orders) {
    const Kept found = emulated_nms(c, options, by_entry, order);
    EXPECT(std::equal(kept.begin(), kept.end(), found.index.begin(), found.index.end()));
    EXPECT(std::equal(counts.begin(), counts.end(), found.counts.begin(), found.counts.end()));
    EXPECT(found.exact == std::vector<int32_t>(c.batch, 1));
  }
}

void suppression() {
  const std::vector<Order> all(std::begin(kOrders), std::end(kOrders)), one{Order::kShuffled};
  for (const int64_t size : {1, 2, 63, 65, 300}) {
    equals_the_op(random_case(2, size, size, 20, 0.8f, 100), 300, 0.5f, false, true, all);
  }
  equals_the_op(random_case(1, 500, 3, 20, 0.8f, 100), 7, 0.3f, false, false, one);  // the output fills
  equals_the_op(random_case(2, 200, 4, 0, 0.8f, 100), 50, 0.7f, true, false, one);
  equals_the_op(random_case(1, 200, 5, 20, 0.0f, 100), 50, 0.7f, false, false, one);  // nothing is valid
  equals_the_op(random_case(1, 9000, 6, 0, 0.3f, 100), 100, 0.5f, false, false, one);  // many, few of them valid
}

void suppression_of_more_boxes_than_a_chunk() {
  const std::vector<Order> one{Order::kShuffled};
  Case c = random_case(1, 6000, 7, 0, 1.0f, 100);
  equals_the_op(c, 800, 0.5f, false, false, one);
  // One place for all: a single box is kept, and every chunk is looked at.
  for (size_t i = 0; i < c.boxes.size(); ++i) c.boxes[i] = i % 4 < 2 ? 0.0f : 10.0f;
  std::fill(c.groups.begin(), c.groups.end(), 1);
  equals_the_op(c, 5, 0.5f, false, false, one);
  std::fill(c.scores.begin(), c.scores.end(), 0.25f);  // chunks end within equal scores
  c.groups[5999] = 2;
  equals_the_op(c, 5, 0.5f, false, false, one);
}

void suppression_of_odd_values() {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  Case c = random_case(1, 100, 8, 20, 0.9f, 60);
  const float odd[] = {nan, -0.0f, 0.0f, -1.0f, infinity, -infinity};
  for (size_t i = 0; i < c.scores.size(); i += 3) c.scores[i] = odd[i / 3 % 6];
  c.boxes[17] = nan, c.boxes[42] = infinity, std::swap(c.boxes[80], c.boxes[82]);
  equals_the_op(c, 300, 0.5f, false, true, {Order::kUpwards});
}

void pooling() {
  constexpr int64_t kBatch = 2, kChannels = 45;  // more values than a block has threads
  const int64_t sides[3][2] = {{13, 11}, {7, 6}, {4, 3}};
  testing::Random random(11);
  std::vector<fastdet::Half> maps[3];
  fastdet::RoiAlignArgs args{};
  for (int l = 0; l < 3; ++l) {
    const int64_t height = sides[l][0], width = sides[l][1];
    for (int64_t i = 0; i < kBatch * kChannels * height * width; ++i) {
      maps[l].push_back(fastdet::narrow<fastdet::Half>(random.uniform() - 0.5f));
    }
    args.levels[l] = {maps[l].data(),         height, width, kChannels * height * width, height * width, width, 1,
                      0.25 / static_cast<double>(1 << l)};
  }
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> rois{0, 2, 3, 9, 12,  1, -20, -20, 90, 90,  1, 5, 5, 5,  5,  0, 30, 30,  10, 10,
                                9, 0, 0, 9, 9,   0, nan, 0,   9,  9,   1, 0, 0, 44, 52, 1, 43, 51,  44, 52};
  args.num_levels = 3, args.dtype = fastdet::DType::kFloat16, args.batch = kBatch, args.channels = kChannels;
  args.rois = rois.data(), args.num_rois = static_cast<int64_t>(rois.size()) / 5;
  args.out_h = FASTDET_OUT_H, args.out_w = FASTDET_OUT_W, args.sampling_ratio = 0, args.aligned = true;
  args.finest_scale = FASTDET_FINEST_SCALE;
  std::vector<fastdet::Half> expected(args.num_rois * kChannels * 6), found(expected.size());
  args.pooled = expected.data();
  // The CPU kernel takes no image that is not there; on a GPU such a RoI gives zeros.
  std::vector<float> inside = rois;
  inside[4 * 5] = 0;
  args.rois = inside.data();
  fastdet::roi_align_forward_cpu(args, fastdet::run_serially);
  std::fill_n(expected.begin() + 4 * kChannels * 6, kChannels * 6, fastdet::Half{0});
  const unsigned rows = static_cast<unsigned>(args.num_rois);
  for (const Order order : kOrders) {
    std::fill(found.begin(), found.end(), fastdet::Half{0x7C00});
    emulated::launch({rows, 2, 1}, fastdet::kBlockThreads, order, [&] {
      fastdet_roi_align(rois.data(), maps[0].data(), maps[1].data(), maps[2].data(), kBatch, kChannels, 13, 11, 7, 6, 4,
                        3, found.data());
    });
    float worst = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      worst = std::max(worst, std::abs(fastdet::widen(expected[i]) - fastdet::widen(found[i])));
    }
    EXPECT(worst <= 4.9e-4f);  // a last bit of fp16 below 1
  }
}

// As the graph uses the columns: out[n, g] = weight[g] @ columns[n, g] + bias.
void deformable_convolution() {
  testing::Random random(12);
  fastdet::DeformConv2dArgs args{};
  args.dtype = fastdet::DType::kFloat32, args.batch = 2, args.channels = 8, args.height = 17, args.width = 19;
  args.out_channels = 4, args.groups = 2, args.offset_groups = FASTDET_OFFSET_GROUPS;
  args.kernel_h = 3, args.kernel_w = 2, args.stride_h = 2, args.stride_w = 1, args.padding_h = 1, args.padding_w = 2;
  args.dilation_h = 1, args.dilation_w = 2, args.out_h = 9, args.out_w = 21;
  const auto numbers = [&random](int64_t size, float scale) {
    std::vector<float> values(size);
    for (float& value : values) value = (random.uniform() - 0.5f) * scale;
    return values;
  };
  const int64_t cells = args.height * args.width, places = args.positions(), taps = args.taps();
  const std::vector<float> map = numbers(args.batch * args.channels * cells, 2),
                           mask = numbers(args.batch * args.offset_groups * taps * places, 2),
                           weight = numbers(args.out_channels * args.channels / args.groups * taps, 1),
                           bias = numbers(args.out_channels, 1);
  std::vector<float> offset = numbers(args.batch * args.offset_groups * taps * 2 * places, 6);
  offset[5] = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> inside_out(map.size());  // channels last
  for (int64_t n = 0; n < args.batch; ++n) {
    for (int64_t c = 0; c < args.channels; ++c) {
      for (int64_t i = 0; i < cells; ++i) {
        inside_out[(n * cells + i) * args.channels + c] = map[(n * args.channels + c) * cells + i];
      }
    }
  }
  args.input = inside_out.data(), args.offset = offset.data(), args.mask = mask.data();
  args.weight = weight.data(), args.bias = bias.data();
  std::vector<float> expected(args.batch * args.out_channels * places);
  fastdet::deform_conv2d_forward_cpu(args, expected.data(), false, fastdet::run_serially);
  std::vector<float> columns(args.batch * args.channels * taps * places, -9.0f);
  emulated::launch({1, static_cast<unsigned>(args.batch * args.offset_groups * taps), 1}, fastdet::kBlockThreads,
                   Order::kUpwards, [&] {
                     fastdet_deform_columns(map.data(), offset.data(), mask.data(), static_cast<int>(args.channels),
                                            static_cast<int>(args.height), static_cast<int>(args.width),
                                            static_cast<int>(args.out_h), static_cast<int>(args.out_w), columns.data());
                   });
  const int64_t rows = args.channels / args.groups * taps, outs = args.out_channels / args.groups;
  double worst = 0;
  for (int64_t n = 0; n < args.batch; ++n) {
    for (int64_t o = 0; o < args.out_channels; ++o) {
      for (int64_t i = 0; i < places; ++i) {
        double sum = bias[o];
        for (int64_t r = 0; r < rows; ++r) {
          const int64_t row = (n * args.groups + o / outs) * rows + r;
          sum += static_cast<double>(weight[o * rows + r]) * columns[row * places + i];
        }
        worst = std::max(worst, std::abs(sum - expected[(n * args.out_channels + o) * places + i]));
      }
    }
  }
  EXPECT(worst < 1e-5);
}

}  // namespace

int main() {
  suppression();
  suppression_of_more_boxes_than_a_chunk();
  suppression_of_odd_values();
  pooling();
  deformable_convolution();
  return testing::report();
}
