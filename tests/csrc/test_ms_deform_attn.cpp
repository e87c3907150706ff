// The deformable attention kernels against plain loops, and the gradients against finite differences.
#include "kernels/ms_deform_attn.h"

#include "testing.h"

namespace {

using fastdet::MsDeformAttnArgs;

struct Case {
  MsDeformAttnArgs args;
  std::vector<double> value, locations, weights, slope;
};

std::vector<double> numbers(int64_t size, testing::Random& random, double low, double high) {
  std::vector<double> values(size);
  for (double& value : values) value = low + (high - low) * random.uniform();
  return values;
}

Case make_case(int64_t batch, int64_t queries, int64_t heads, int64_t channels, int64_t points,
               const std::vector<std::pair<int64_t, int64_t>>& shapes, uint64_t seed) {
  testing::Random random(seed);
  Case c{};
  MsDeformAttnArgs& a = c.args;
  a.dtype = fastdet::DType::kFloat64;
  a.batch = batch, a.queries = queries, a.heads = heads, a.channels = channels, a.points = points;
  for (const auto& [height, width] : shapes) {
    a.levels[a.num_levels++] = {height, width, a.cells};
    a.cells += height * width;
  }
  const int64_t samples = batch * queries * heads * a.samples();
  c.value = numbers(batch * a.cells * heads * channels, random, -1, 1);
  c.locations = numbers(2 * samples, random, -0.4, 1.4);
  c.weights = numbers(samples, random, -0.5, 1);
  c.slope = numbers(batch * queries * heads * channels, random, -1, 1);
  return c;
}

void point(Case& c) {
  c.args.value = c.value.data();
  c.args.locations = c.locations.data();
  c.args.weights = c.weights.data();
}

double plain(const Case& c, int64_t query, int64_t head, int64_t channel) {
  const MsDeformAttnArgs& a = c.args;
  const int64_t image = query / a.queries;
  double sum = 0;
  for (int64_t i = 0; i < a.samples(); ++i) {
    const fastdet::AttentionLevel& level = a.levels[i / a.points];
    const int64_t at = (query * a.heads + head) * a.samples() + i;
    const double x = c.locations[2 * at] * static_cast<double>(level.width) - 0.5;
    const double y = c.locations[2 * at + 1] * static_cast<double>(level.height) - 0.5;
    const auto x_low = static_cast<int64_t>(std::floor(x)), y_low = static_cast<int64_t>(std::floor(y));
    for (int64_t cell_y = y_low; cell_y <= y_low + 1; ++cell_y) {
      for (int64_t cell_x = x_low; cell_x <= x_low + 1; ++cell_x) {
        if (cell_y < 0 || cell_y >= level.height || cell_x < 0 || cell_x >= level.width) continue;
        const double share = (1 - std::abs(y - static_cast<double>(cell_y))) *
                             (1 - std::abs(x - static_cast<double>(cell_x)));
        const int64_t cell = image * a.cells + level.start + cell_y * level.width + cell_x;
        sum += c.weights[at] * share * c.value[(cell * a.heads + head) * a.channels + channel];
      }
    }
  }
  return sum;
}

std::vector<double> forward(Case& c) {
  point(c);
  std::vector<double> out(c.slope.size(), -1);
  fastdet::ms_deform_attn_forward_cpu(c.args, out.data(), testing::run_on_two_threads);
  return out;
}

double loss(Case& c) {
  double sum = 0;
  const std::vector<double> out = forward(c);
  for (size_t i = 0; i < out.size(); ++i) sum += out[i] * c.slope[i];
  return sum;
}

void equals_plain_loops(Case& c) {
  const std::vector<double> out = forward(c);
  const MsDeformAttnArgs& a = c.args;
  size_t at = 0;
  for (int64_t query = 0; query < a.batch * a.queries; ++query) {
    for (int64_t head = 0; head < a.heads; ++head) {
      for (int64_t channel = 0; channel < a.channels; ++channel, ++at) {
        EXPECT(std::abs(out[at] - plain(c, query, head, channel)) < 1e-12);
      }
    }
  }
}

struct Sums {
  std::vector<double> value, locations, weights;
};

Sums backward(Case& c, fastdet::ParallelRunner run) {
  point(c);
  Sums sums{std::vector<double>(c.value.size(), -1), std::vector<double>(c.locations.size(), -1),
            std::vector<double>(c.weights.size(), -1)};
  const fastdet::MsDeformAttnGradients gradients{c.slope.data(), sums.value.data(), sums.locations.data(),
                                                 sums.weights.data()};
  fastdet::ms_deform_attn_backward_cpu(c.args, gradients, run);
  return sums;
}

void differences_agree(Case& c, std::vector<double>& values, const std::vector<double>& gradient) {
  constexpr double kStep = 1e-6;
  for (size_t i = 0; i < values.size(); i += 1 + values.size() / 50) {
    const double value = values[i];
    values[i] = value + kStep;
    const double more = loss(c);
    values[i] = value - kStep;
    const double less = loss(c);
    values[i] = value;
    EXPECT(std::abs((more - less) / (2 * kStep) - gradient[i]) < 1e-5);
  }
}

void gradients_equal_differences(Case& c) {
  const Sums sums = backward(c, testing::run_on_two_threads);
  differences_agree(c, c.value, sums.value);
  differences_agree(c, c.locations, sums.locations);
  differences_agree(c, c.weights, sums.weights);
}

void threads_change_no_bit(Case& c) {
  const Sums one = backward(c, fastdet::run_serially), two = backward(c, testing::run_on_two_threads);
  EXPECT(one.value == two.value && one.locations == two.locations && one.weights == two.weights);
}

}  // namespace

int main() {
  Case cases[] = {make_case(2, 5, 2, 5, 2, {{6, 4}, {3, 2}}, 1), make_case(1, 1, 1, 1, 1, {{1, 1}}, 2),
                  make_case(3, 7, 3, 37, 3, {{9, 5}, {4, 7}, {1, 3}}, 3), make_case(1, 40, 8, 32, 4, {{13, 17}}, 4),
                  make_case(2, 60, 3, 20, 4, {{5, 7}, {3, 2}}, 5)};
  for (Case& c : cases) {
    equals_plain_loops(c);
    gradients_equal_differences(c);
    threads_change_no_bit(c);
  }
  return testing::report();
}
