// The deformable convolution kernels against plain loops, and the gradients against finite differences.
#include "kernels/deform_conv2d.h"
#include "kernels/fixed_point.h"

#include "testing.h"

namespace {

using fastdet::DeformConv2dArgs;

struct Case {
  DeformConv2dArgs args;
  std::vector<double> input, offset, mask, weight, bias, slope;
};

std::vector<double> numbers(int64_t size, testing::Random& random, double scale) {
  std::vector<double> values(size);
  for (double& value : values) value = (random.uniform() - 0.5) * scale;
  return values;
}

Case make_case(int64_t batch, int64_t channels, int64_t out, int64_t groups, int64_t offset_groups, int64_t height,
               int64_t width, bool with_mask, uint64_t seed) {
  testing::Random random(seed);
  Case c{};
  DeformConv2dArgs& a = c.args;
  a.dtype = fastdet::DType::kFloat64;
  a.batch = batch, a.channels = channels, a.height = height, a.width = width, a.out_channels = out;
  a.kernel_h = 3, a.kernel_w = 2, a.stride_h = 2, a.stride_w = 1, a.padding_h = 1, a.padding_w = 2;
  a.dilation_h = 1, a.dilation_w = 2, a.groups = groups, a.offset_groups = offset_groups;
  a.out_h = (height + 2 * a.padding_h - a.dilation_h * (a.kernel_h - 1) - 1) / a.stride_h + 1;
  a.out_w = (width + 2 * a.padding_w - a.dilation_w * (a.kernel_w - 1) - 1) / a.stride_w + 1;
  c.input = numbers(batch * height * width * channels, random, 2);
  c.offset = numbers(batch * offset_groups * a.taps() * 2 * a.positions(), random, 5);
  if (with_mask) c.mask = numbers(batch * offset_groups * a.taps() * a.positions(), random, 2);
  c.weight = numbers(out * channels / groups * a.taps(), random, 1);
  c.bias = numbers(out, random, 1);
  c.slope = numbers(batch * a.positions() * out, random, 2);
  return c;
}

void point(Case& c) {
  c.args.input = c.input.data();
  c.args.offset = c.offset.data();
  c.args.mask = c.mask.empty() ? nullptr : c.mask.data();
  c.args.weight = c.weight.data();
  c.args.bias = c.bias.data();
}

double at(const Case& c, int64_t n, int64_t channel, int64_t y, int64_t x) {
  const DeformConv2dArgs& a = c.args;
  if (y < 0 || y >= a.height || x < 0 || x >= a.width) return 0;
  return c.input[((n * a.height + y) * a.width + x) * a.channels + channel];
}

double plain(const Case& c, int64_t n, int64_t o, int64_t position) {
  const DeformConv2dArgs& a = c.args;
  const int64_t in = a.channels / a.groups, group = o / (a.out_channels / a.groups);
  double sum = c.bias[o];
  for (int64_t k = 0; k < a.taps(); ++k) {
    for (int64_t i = 0; i < in; ++i) {
      const int64_t channel = group * in + i, og = channel / (a.channels / a.offset_groups);
      const int64_t plane = (n * a.offset_groups + og) * a.taps() + k;
      const double y = static_cast<double>(position / a.out_w * a.stride_h - a.padding_h + k / a.kernel_w * a.dilation_h) +
                       c.offset[2 * plane * a.positions() + position];
      const double x = static_cast<double>(position % a.out_w * a.stride_w - a.padding_w + k % a.kernel_w * a.dilation_w) +
                       c.offset[(2 * plane + 1) * a.positions() + position];
      const auto y0 = static_cast<int64_t>(std::floor(y)), x0 = static_cast<int64_t>(std::floor(x));
      const double fy = y - static_cast<double>(y0), fx = x - static_cast<double>(x0);
      const double value = (1 - fy) * ((1 - fx) * at(c, n, channel, y0, x0) + fx * at(c, n, channel, y0, x0 + 1)) +
                           fy * ((1 - fx) * at(c, n, channel, y0 + 1, x0) + fx * at(c, n, channel, y0 + 1, x0 + 1));
      const double mask = c.mask.empty() ? 1.0 : c.mask[plane * a.positions() + position];
      sum += c.weight[(o * in + i) * a.taps() + k] * mask * value;
    }
  }
  return sum;
}

std::vector<double> forward(Case& c, bool channels_last) {
  point(c);
  std::vector<double> out(c.slope.size(), -1);
  fastdet::deform_conv2d_forward_cpu(c.args, out.data(), channels_last, testing::run_on_two_threads);
  return out;
}

double loss(Case& c) {
  double sum = 0;
  const std::vector<double> out = forward(c, true);
  for (size_t i = 0; i < out.size(); ++i) sum += out[i] * c.slope[i];
  return sum;
}

void equals_plain_loops(Case c) {
  const std::vector<double> rows = forward(c, true), planes = forward(c, false);
  const DeformConv2dArgs& a = c.args;
  for (int64_t n = 0; n < a.batch; ++n) {
    for (int64_t o = 0; o < a.out_channels; ++o) {
      for (int64_t p = 0; p < a.positions(); ++p) {
        const double expected = plain(c, n, o, p);
        EXPECT(std::abs(rows[(n * a.positions() + p) * a.out_channels + o] - expected) < 1e-10);
        EXPECT(std::abs(planes[(n * a.out_channels + o) * a.positions() + p] - expected) < 1e-10);
      }
    }
  }
}

void differences_agree(Case& c, std::vector<double>& values, const std::vector<double>& gradient) {
  constexpr double kStep = 1e-6;
  for (size_t i = 0; i < values.size(); i += 1 + values.size() / 40) {
    const double value = values[i];
    values[i] = value + kStep;
    const double more = loss(c);
    values[i] = value - kStep;
    const double less = loss(c);
    values[i] = value;
    EXPECT(std::abs((more - less) / (2 * kStep) - gradient[i]) < 1e-5);
  }
}

void gradients_equal_differences(Case c) {
  point(c);
  std::vector<double> input(c.input.size(), 0), offset(c.offset.size(), -1), mask(c.mask.size(), -1),
      weight(c.weight.size(), -1);
  const fastdet::DeformConv2dGradients gradients{c.slope.data(), input.data(), offset.data(),
                                                 c.mask.empty() ? nullptr : mask.data(), weight.data()};
  fastdet::deform_conv2d_backward_cpu(c.args, gradients, testing::run_on_two_threads);
  differences_agree(c, c.input, input);
  differences_agree(c, c.offset, offset);
  differences_agree(c, c.mask, mask);
  differences_agree(c, c.weight, weight);
}

void threads_change_no_bit(Case c) {
  point(c);
  std::vector<double> one, two;
  for (std::vector<double>* sums : {&one, &two}) {
    std::vector<double> offset(c.offset.size()), mask(c.mask.size()), weight(c.weight.size());
    sums->assign(c.input.size(), 0);
    const fastdet::DeformConv2dGradients gradients{c.slope.data(), sums->data(), offset.data(),
                                                   c.mask.empty() ? nullptr : mask.data(), weight.data()};
    fastdet::deform_conv2d_backward_cpu(c.args, gradients,
                                        sums == &one ? fastdet::run_serially : testing::run_on_two_threads);
    sums->insert(sums->end(), weight.begin(), weight.end());
    sums->insert(sums->end(), offset.begin(), offset.end());
  }
  EXPECT(one == two);
}

void integer_sums_do_not_depend_on_the_order() {
  testing::Random random(5);
  constexpr int64_t kCount = 20000;
  for (const double bound : {1e-30, 0.7, 1.0, 3e20}) {
    std::vector<double> terms(kCount);
    double exact = 0.0;
    for (double& term : terms) exact += term = (random.uniform() * 2 - 1) * bound;
    const double scale = fastdet::fixed_point_scale(bound, kCount);
    int64_t forward = 0, backward = 0, largest = 0;
    for (int64_t i = 0; i < kCount; ++i) {
      forward += fastdet::to_fixed_point(terms[i], scale);
      backward += fastdet::to_fixed_point(terms[kCount - 1 - i], scale);
      largest += fastdet::to_fixed_point(bound, scale);  // the most that there can be
    }
    EXPECT(forward == backward);
    EXPECT(std::abs(fastdet::from_fixed_point(forward, scale) - exact) < 1e-9 * bound);
    EXPECT(std::abs(fastdet::from_fixed_point(largest, scale) - bound * kCount) < 1e-9 * bound * kCount);
  }
  EXPECT(fastdet::fixed_point_scale(0.0, 5) == 1.0);
  EXPECT(std::isfinite(fastdet::fixed_point_scale(1e-310, 1)));
}

}  // namespace

int main() {
  integer_sums_do_not_depend_on_the_order();
  const Case cases[] = {make_case(2, 6, 4, 2, 3, 7, 6, true, 1), make_case(1, 1, 1, 1, 1, 3, 3, false, 2),
                        make_case(3, 70, 37, 1, 2, 9, 11, true, 3), make_case(1, 12, 6, 3, 2, 30, 19, false, 4)};
  for (const Case& c : cases) {
    equals_plain_loops(c);
    gradients_equal_differences(c);
    threads_change_no_bit(c);
  }
  return testing::report();
}
