// The RoIAlign kernels: known values, layouts against each other, gradient as the transpose, odd RoIs.
#include <limits>

#include "kernels/half.h"
#include "kernels/roi_align.h"
#include "testing.h"

namespace {

using fastdet::DType;
using fastdet::RoiAlignArgs;

constexpr int64_t kBatch = 2, kChannels = 37, kHeight = 13, kWidth = 11, kBins = 12;

// One level; channels innermost or outermost.
RoiAlignArgs make_args(std::vector<float>& map, const std::vector<float>& rois, std::vector<float>& pooled, bool last) {
  RoiAlignArgs args{};
  args.levels[0] = {map.data(),
                    kHeight,
                    kWidth,
                    kChannels * kHeight * kWidth,
                    last ? 1 : kHeight * kWidth,
                    last ? kWidth * kChannels : kWidth,
                    last ? kChannels : 1,
                    0.25};
  args.num_levels = 1;
  args.dtype = DType::kFloat32;
  args.batch = kBatch;
  args.channels = kChannels;
  args.rois = rois.data();
  args.num_rois = static_cast<int64_t>(rois.size()) / 5;
  args.out_h = 3;
  args.out_w = 4;
  args.sampling_ratio = 0;
  args.aligned = true;
  args.finest_scale = 56.0;
  pooled.resize(args.num_rois * kChannels * kBins);
  args.pooled = pooled.data();
  args.pooled_channels_last = last;
  return args;
}

std::vector<float> random_values(size_t size, uint64_t seed) {
  testing::Random random(seed);
  std::vector<float> values(size);
  for (float& value : values) value = random.uniform() - 0.5f;
  return values;
}

std::vector<float> some_rois() {
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  return {0,    2, 3, 30,  40, 1, -20, -20, 90, 90, 1,        5, 5, 5,     5,     0,    30,   30, 10, 10, 1,  1e9f, 0,
          2e9f, 9, 0, nan, 0,  9, 9,   1,   0,  0,  infinity, 9, 0, -1e9f, -1e9f, 1e9f, 1e9f, 1,  43, 51, 44, 52};
}

std::vector<float> to_channels_last(const std::vector<float>& map, int64_t images, int64_t cells) {
  std::vector<float> result(map.size());
  for (int64_t n = 0; n < images; ++n) {
    for (int64_t c = 0; c < kChannels; ++c) {
      for (int64_t s = 0; s < cells; ++s) {
        result[(n * cells + s) * kChannels + c] = map[(n * kChannels + c) * cells + s];
      }
    }
  }
  return result;
}

void known_values() {
  std::vector<float> map = {1, 2, 3, 4};
  const std::vector<float> rois = {0, 0, 0, 1, 1};
  std::vector<float> pooled(4);
  RoiAlignArgs args{};
  args.levels[0] = {map.data(), 2, 2, 4, 4, 2, 1, 1.0};
  args.num_levels = 1;
  args.batch = args.channels = args.num_rois = 1;
  args.rois = rois.data();
  args.out_h = args.out_w = args.sampling_ratio = 2;
  args.aligned = true;
  args.finest_scale = 56.0;
  args.pooled = pooled.data();
  EXPECT(fastdet::roi_align_first_bad_roi(args) == -1);
  fastdet::roi_align_forward_cpu(args, fastdet::run_serially);
  EXPECT((pooled == std::vector<float>{1.0f, 1.25f, 1.5f, 1.75f}));
  std::vector<float> ones(4, 1.0f), gradient(4, 0.0f);
  args.pooled = ones.data();
  args.levels[0].data = gradient.data();
  fastdet::roi_align_backward_cpu(args, fastdet::run_serially);
  EXPECT((gradient == std::vector<float>{3.0625f, 0.4375f, 0.4375f, 0.0625f}));
}

void layouts_agree_and_gradients_are_transposes() {
  const int64_t cells = kHeight * kWidth;
  const std::vector<float> rois = some_rois();
  std::vector<float> map = random_values(kBatch * kChannels * cells, 1);
  std::vector<float> last_map = to_channels_last(map, kBatch, cells);
  std::vector<float> pooled, last_pooled;
  RoiAlignArgs plain = make_args(map, rois, pooled, false);
  RoiAlignArgs last = make_args(last_map, rois, last_pooled, true);
  fastdet::roi_align_forward_cpu(plain, testing::run_on_two_threads);
  fastdet::roi_align_forward_cpu(last, testing::run_on_two_threads);
  const std::vector<float> moved = to_channels_last(pooled, plain.num_rois, kBins);
  for (size_t i = 0; i < moved.size(); ++i) EXPECT(std::fabs(moved[i] - last_pooled[i]) < 1e-5f);

  // <grad, pool(map)> == <pool_transposed(grad), map>
  std::vector<float> grad = random_values(pooled.size(), 2);
  double forward = 0.0, backward = 0.0, backward_last = 0.0;
  for (size_t i = 0; i < grad.size(); ++i) forward += static_cast<double>(grad[i]) * pooled[i];
  std::vector<float> map_grad(map.size(), 0.0f), last_map_grad(map.size(), 0.0f);
  plain.pooled = grad.data();
  plain.levels[0].data = map_grad.data();
  fastdet::roi_align_backward_cpu(plain, testing::run_on_two_threads);
  std::vector<float> last_grad = to_channels_last(grad, plain.num_rois, kBins);
  last.pooled = last_grad.data();
  last.levels[0].data = last_map_grad.data();
  fastdet::roi_align_backward_cpu(last, testing::run_on_two_threads);
  for (size_t i = 0; i < map.size(); ++i) {
    backward += static_cast<double>(map_grad[i]) * map[i];
    backward_last += static_cast<double>(last_map_grad[i]) * last_map[i];
  }
  EXPECT(std::fabs(forward - backward) < 1e-3);
  EXPECT(std::fabs(forward - backward_last) < 1e-3);
  for (const float value : map_grad) EXPECT(std::isfinite(value));
}

// More RoIs than are taken at once, windows wider than two vectors, more bins than lanes; one cell is infinite, and only
// the bins that take it may be.
void layouts_agree_on_wide_windows() {
  constexpr int64_t channels = 3, height = 9, width = 90, bins = 2 * 18, count = 150;
  testing::Random random(7);
  std::vector<float> map = random_values(channels * height * width, 3), last_map(map.size()), rois;
  map[4 * width + 60] = std::numeric_limits<float>::infinity();
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t s = 0; s < height * width; ++s) last_map[s * channels + c] = map[c * height * width + s];
  }
  for (int64_t i = 0; i < count; ++i) {
    const float x = 100.0f * random.uniform() - 5.0f, y = 9.0f * random.uniform();
    rois.insert(rois.end(), {0.0f, x, y, x + 90.0f * random.uniform(), y + 5.0f * random.uniform()});
  }
  for (const int64_t sampling_ratio : {0, 2}) {
    std::vector<float> pooled(count * channels * bins), last_pooled(pooled.size());
    RoiAlignArgs args{};
    args.levels[0] = {map.data(), height, width, 0, height * width, width, 1, 1.0};
    args.num_levels = 1;
    args.dtype = DType::kFloat32;
    args.batch = 1;
    args.channels = channels;
    args.rois = rois.data();
    args.num_rois = count;
    args.out_h = 2;
    args.out_w = 18;
    args.sampling_ratio = sampling_ratio;
    args.aligned = true;
    args.finest_scale = 56.0;
    args.pooled = pooled.data();
    fastdet::roi_align_forward_cpu(args, testing::run_on_two_threads);
    args.levels[0] = {last_map.data(), height, width, 0, 1, width * channels, channels, 1.0};
    args.pooled = last_pooled.data();
    fastdet::roi_align_forward_cpu(args, testing::run_on_two_threads);
    int64_t infinite = 0;
    for (size_t i = 0; i < pooled.size(); ++i) {
      infinite += std::isinf(pooled[i]);
      EXPECT(std::isinf(pooled[i]) ? pooled[i] == last_pooled[i] : std::fabs(pooled[i] - last_pooled[i]) < 1e-5f);
    }
    EXPECT(infinite > 0 && infinite < count * bins);
  }
}

void bad_rois_are_found() {
  std::vector<float> map(kBatch * kChannels * kHeight * kWidth), pooled;
  for (const float image : {-1.0f, 2.0f, 1e20f, std::numeric_limits<float>::quiet_NaN()}) {
    const std::vector<float> rois = {0, 0, 0, 1, 1, image, 0, 0, 1, 1};
    EXPECT(fastdet::roi_align_first_bad_roi(make_args(map, rois, pooled, false)) == 1);
  }
}

// Every half value survives widening and narrowing, and narrowing rounds to nearest even.
void halves_convert_exactly() {
  for (uint32_t bits = 0; bits < 0x10000u; ++bits) {
    const fastdet::Half half{static_cast<uint16_t>(bits)};
    const fastdet::BFloat16 brain{static_cast<uint16_t>(bits)};
    if ((bits & 0x7FFFu) <= 0x7C00u) EXPECT(fastdet::narrow<fastdet::Half>(fastdet::widen(half)).bits == bits);
    if ((bits & 0x7FFFu) <= 0x7F80u) EXPECT(fastdet::narrow<fastdet::BFloat16>(fastdet::widen(brain)).bits == bits);
  }
  EXPECT(fastdet::narrow<fastdet::Half>(2049.0f).bits == fastdet::narrow<fastdet::Half>(2048.0f).bits);
  EXPECT(fastdet::narrow<fastdet::Half>(2051.0f).bits == fastdet::narrow<fastdet::Half>(2052.0f).bits);
  EXPECT(fastdet::narrow<fastdet::Half>(65520.0f).bits == 0x7C00u);
  EXPECT(fastdet::narrow<fastdet::Half>(65519.0f).bits == 0x7BFFu);
}

}  // namespace

int main() {
  known_values();
  layouts_agree_and_gradients_are_transposes();
  layouts_agree_on_wide_windows();
  bad_rois_are_found();
  halves_convert_exactly();
  return testing::report();
}
