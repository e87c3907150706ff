// Overlaps of boxes: known values, every pair of a matrix, and slopes against differences.
#include "kernels/box_iou.h"
#include "testing.h"

namespace {

std::vector<double> random_boxes(int64_t count, uint64_t seed) {
  testing::Random random(seed);
  std::vector<double> boxes;
  for (int64_t i = 0; i < count; ++i) {
    const double x = random.uniform() * 20, y = random.uniform() * 20;
    boxes.insert(boxes.end(), {x, y, x + 5 + random.uniform() * 20, y + 5 + random.uniform() * 20});
  }
  return boxes;
}

void matrices_hold_every_pair() {
  for (const int64_t columns : {1, 127, 128, 129, 300}) {
    const std::vector<double> wide_first = random_boxes(7, 1), wide_second = random_boxes(2 * columns, 2);
    const std::vector<float> first(wide_first.begin(), wide_first.end());
    const std::vector<float> second(wide_second.begin(), wide_second.end());
    for (const bool shared : {false, true}) {
      const int64_t batch = 1 + (shared ? 0 : 1);
      std::vector<float> rows = first;
      if (!shared) rows.insert(rows.end(), first.begin(), first.end());
      std::vector<float> values(batch * 7 * columns, -1.0f);
      const fastdet::BoxIouArgs args{fastdet::DType::kFloat32, rows.data(), second.data(), shared, batch, 7, columns,
                                     fastdet::Overlap::kGiou,  1e-6,        values.data()};
      fastdet::box_iou_cpu(args, testing::run_on_two_threads);
      for (int64_t i = 0; i < batch * 7; ++i) {
        for (int64_t j = 0; j < columns; ++j) {
          const float* a = &rows[i * 4];
          const float* b = &second[((shared ? 0 : i / 7) * columns + j) * 4];
          const fastdet::PairBox<float> one{a[0], a[1], a[2], a[3]}, other{b[0], b[1], b[2], b[3]};
          const float expected = fastdet::pair_value<fastdet::Overlap::kGiou>(one, other, 1e-6f);
          EXPECT(std::abs(values[i * columns + j] - expected) < 1e-6f);
        }
      }
    }
  }
}

void slopes_equal_differences() {
  constexpr int64_t kCount = 130;
  const std::vector<double> first = random_boxes(kCount, 3), second = random_boxes(kCount, 4);
  const std::vector<double> grad(kCount, 1.0);
  for (const fastdet::Overlap kind : {fastdet::Overlap::kIou, fastdet::Overlap::kGiou, fastdet::Overlap::kDiou}) {
    std::vector<double> of_first(kCount * 4), of_second(kCount * 4), low(kCount), high(kCount);
    fastdet::PairedBoxIouArgs args{};
    args.dtype = fastdet::DType::kFloat64;
    args.count = kCount;
    args.kind = kind;
    args.eps = 1e-6;
    args.grad = grad.data();
    args.first = first.data();
    args.second = second.data();
    args.first_gradient = of_first.data();
    args.second_gradient = of_second.data();
    fastdet::paired_box_iou_backward_cpu(args, testing::run_on_two_threads);
    for (int k = 0; k < 8; ++k) {
      constexpr double kStep = 1e-6;
      for (const double step : {-kStep, kStep}) {
        std::vector<double> a = first, b = second;
        for (int64_t i = 0; i < kCount; ++i) (k < 4 ? a : b)[i * 4 + k % 4] += step;
        args.first = a.data();
        args.second = b.data();
        args.values = step < 0 ? low.data() : high.data();
        fastdet::paired_box_iou_cpu(args, testing::run_on_two_threads);
      }
      for (int64_t i = 0; i < kCount; ++i) {
        const double slope = (k < 4 ? of_first : of_second)[i * 4 + k % 4];
        EXPECT(std::abs((high[i] - low[i]) / (2 * kStep) - slope) < 1e-7);
      }
    }
  }
}

}  // namespace

int main() {
  matrices_hold_every_pair();
  slopes_equal_differences();
  return testing::report();
}
