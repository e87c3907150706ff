// The focal loss kernel against the formula in double.
#include "kernels/sigmoid_focal_loss.h"
#include "testing.h"

namespace {

double plain_loss(double logit, bool positive, double factor, double gamma) {
  const double own = positive ? logit : -logit;
  const double right = 1.0 / (1.0 + std::exp(-own));
  return -factor * std::pow(1.0 - right, gamma) * std::log(right);
}

void equals_the_formula() {
  for (const int64_t rows : {1, 2, 37, 300}) {
    for (const int64_t classes : {1, 3, 80, 600}) {
      testing::Random random(static_cast<uint64_t>(rows * classes));
      std::vector<float> logits, weight;
      std::vector<int64_t> labels;
      for (int64_t r = 0; r < rows; ++r) {
        labels.push_back(static_cast<int64_t>(random.uniform() * static_cast<float>(classes + 2)) - 1);
        weight.push_back(random.uniform() < 0.3f ? 0.0f : random.uniform());
        for (int64_t c = 0; c < classes; ++c) logits.push_back(8.0f * random.uniform() - 4.0f);
      }
      for (const double gamma : {1.5, 2.0}) {
        const fastdet::SigmoidFocalLossArgs args{fastdet::DType::kFloat32, logits.data(), labels.data(), weight.data(),
                                                 false,                    rows,          classes,       0.25,
                                                 0.75,                     gamma};
        std::vector<float> loss(rows * classes, -1.0f), slope(rows * classes, -9.0f), grad(rows * classes);
        for (float& value : grad) value = random.uniform();
        fastdet::sigmoid_focal_loss_cpu(args, loss.data(), testing::run_on_two_threads);
        fastdet::sigmoid_focal_loss_backward_cpu(args, grad.data(), false, slope.data(), testing::run_on_two_threads);
        double total = 0.0;
        for (int64_t i = 0; i < rows * classes; ++i) {
          const int64_t row = i / classes;
          const bool positive = labels[row] == i % classes;
          const double factor = weight[row] * (positive ? 0.25 : 0.75);
          const double expected = plain_loss(logits[i], positive, factor, gamma);
          EXPECT(std::abs(loss[i] - expected) <= 1e-6);
          constexpr double kStep = 1e-5;
          const double rise = plain_loss(logits[i] + kStep, positive, factor, gamma) -
                              plain_loss(logits[i] - kStep, positive, factor, gamma);
          EXPECT(std::abs(slope[i] - grad[i] * rise / (2 * kStep)) <= 2e-6);
          total += loss[i];
        }
        const double sum = fastdet::sigmoid_focal_loss_sum_cpu(args, testing::run_on_two_threads);
        EXPECT(std::abs(sum - total) <= 1e-6 * total + 1e-9);
      }
    }
  }
}

}  // namespace

int main() {
  equals_the_formula();
  return testing::report();
}
