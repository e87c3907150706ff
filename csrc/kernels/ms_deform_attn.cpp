// Multi-scale deformable attention on the CPU: the samples of a query are located a vector at a time, then each head
// sums its own channels in registers.
#include "ms_deform_attn.h"

#include <algorithm>
#include <vector>

#include "cpu_kernels.h"
#include "memory.h"

namespace fastdet {
namespace {

constexpr int64_t kFlopsPerNanosecond = 5;  // cells lie anywhere: most of the time is waiting for them

template <typename A>
class Samples {
 public:
  // `repeats` times the samples of one head.
  Samples(const MsDeformAttnArgs& args, int64_t repeats) : size_(repeats * args.samples()) {
    const int64_t padded = (size_ + kSamplePadding - 1) / kSamplePadding * kSamplePadding;
    reals_.assign(8 * padded, A(0));
    integers_.assign(6 * padded, 0);
    for (int64_t i = 0; i < size_; ++i) {
      const AttentionLevel& level = args.levels[i % args.samples() / args.points];
      reals_[i] = A(level.width);
      reals_[padded + i] = A(level.height);
      integers_[i] = static_cast<integer_t<A>>(level.start);
    }
    for (int corner = 0; corner < 4; ++corner) {
      taps.weight[corner] = reals_.data() + (2 + corner) * padded;
      taps.cell[corner] = integers_.data() + (1 + corner) * padded;
    }
    taps.x_fraction = reals_.data() + 6 * padded;
    taps.y_fraction = reals_.data() + 7 * padded;
    taps.sides = integers_.data() + 5 * padded;
    grid = {reals_.data(), reals_.data() + padded, integers_.data(), size_};
  }
  Samples(const Samples&) = delete;
  Samples& operator=(const Samples&) = delete;

  void locate(const A* locations, const A* attention) {
    cpu_kernels().attention_samples.get<A>().locate(locations, attention, grid, taps);
  }

  AttentionGrid<A> grid;
  AttentionTaps<A> taps;

 private:
  int64_t size_;
  std::vector<A> reals_;
  std::vector<integer_t<A>> integers_;
};

int64_t grain_of(double flops_per_task) {
  const double nanoseconds = flops_per_task / kFlopsPerNanosecond;
  return std::max<int64_t>(1, static_cast<int64_t>(kMinTaskNanoseconds / std::max(nanoseconds, 1.0)));
}

double flops_of_head(const MsDeformAttnArgs& args) {
  return 8.0 * static_cast<double>(args.samples()) * static_cast<double>(args.channels + 16);
}

template <typename T>
void forward(const MsDeformAttnArgs& args, T* output, ParallelRunner run) {
  using A = accumulator_t<T>;
  const AttentionLoops<T>& loops = cpu_kernels().attention.get<T>();
  const int64_t row = args.heads * args.channels, samples = args.samples();
  const int64_t grain = grain_of(static_cast<double>(args.heads) * flops_of_head(args));
  parallel_for(run, args.batch * args.queries, grain, [&](int64_t begin, int64_t end) {
    Samples<A> query(args, args.heads);
    for (int64_t q = begin; q < end; ++q) {
      const int64_t first = q * args.heads * samples;
      query.locate(static_cast<const A*>(args.locations) + 2 * first, static_cast<const A*>(args.weights) + first);
      const T* image = static_cast<const T*>(args.value) + q / args.queries * args.cells * row;
      for (int64_t head = 0; head < args.heads; ++head) {
        loops.attend(image + head * args.channels, row, args.channels, query.taps, head * samples,
                     (head + 1) * samples, output + q * row + head * args.channels);
      }
    }
  });
}

// The values of one head of one image and their gradient, which nobody else adds to. Where heads alternate, the cells
// of one are a power of two apart as a rule, and would share a small part of the caches: both are copied side by side,
// unless too few samples are taken for that.
template <typename T>
class HeadValues {
 public:
  using A = accumulator_t<T>;

  explicit HeadValues(const MsDeformAttnArgs& args)
      : args_(args), row_(args.heads * args.channels), copied_(copies(args)), arena_(copied_ ? bytes(args) : 0) {}

  void take(int64_t at, A* gradient) {
    value = static_cast<const T*>(args_.value) + at;
    value_gradient = given_ = gradient + at;
    cell_stride = row_;
    if (copied_) {
      const int64_t size = args_.cells * args_.channels;
      arena_.clear();
      T* const values = arena_.template take<T>(size);
      for_cells([&](int64_t to, int64_t from) { std::copy_n(value + from, args_.channels, values + to); });
      value = values;
      value_gradient = arena_.template take<A>(size);
      cell_stride = args_.channels;
    }
    for (int64_t cell = 0; cell < args_.cells; ++cell) {
      std::fill_n(value_gradient + cell * cell_stride, args_.channels, A(0));
    }
  }

  void give_back() const {
    if (!copied_) return;
    for_cells([&](int64_t from, int64_t to) { std::copy_n(value_gradient + from, args_.channels, given_ + to); });
  }

  const T* value = nullptr;
  A* value_gradient = nullptr;
  int64_t cell_stride = 0;

 private:
  static bool copies(const MsDeformAttnArgs& args) {
    constexpr int64_t kReadsPerCell = 8;
    return args.heads > 1 && 4 * args.queries * args.samples() >= kReadsPerCell * args.cells;
  }

  static size_t bytes(const MsDeformAttnArgs& args) {
    constexpr size_t kLines = 2 * 64;  // of the cache, which begin an array
    return static_cast<size_t>(args.cells * args.channels) * (sizeof(T) + sizeof(A)) + kLines;
  }

  // Calls function(where it is side by side, where it is in a row of all heads) for each cell.
  template <typename Function>
  void for_cells(const Function& function) const {
    for (int64_t cell = 0; cell < args_.cells; ++cell) function(cell * args_.channels, cell * row_);
  }

  const MsDeformAttnArgs& args_;
  int64_t row_;
  bool copied_;
  Arena arena_;
  A* given_ = nullptr;
};

template <typename T>
void backward_head(const MsDeformAttnArgs& args, const MsDeformAttnGradients& gradients, int64_t image, int64_t head,
                   HeadValues<T>& values) {
  using A = accumulator_t<T>;
  const int64_t row = args.heads * args.channels, samples = args.samples();
  values.take(image * args.cells * row + head * args.channels, static_cast<A*>(gradients.value));
  Samples<A> taps(args, 1);
  const int64_t padded = (samples + kSamplePadding - 1) / kSamplePadding * kSamplePadding;
  std::vector<A> products(4 * padded), slope(args.channels);
  A* const dots[4] = {products.data(), products.data() + padded, products.data() + 2 * padded,
                      products.data() + 3 * padded};
  for (int64_t q = image * args.queries; q < (image + 1) * args.queries; ++q) {
    const int64_t first = (q * args.heads + head) * samples;
    const A* attention = static_cast<const A*>(args.weights) + first;
    const T* from = static_cast<const T*>(gradients.output) + q * row + head * args.channels;
    for (int64_t c = 0; c < args.channels; ++c) slope[c] = widen(from[c]);
    taps.locate(static_cast<const A*>(args.locations) + 2 * first, attention);
    cpu_kernels().attention.get<T>().scatter(values.value, values.value_gradient, values.cell_stride, args.channels,
                                             taps.taps, samples, slope.data(), dots);
    cpu_kernels().attention_samples.get<A>().slopes(taps.grid, taps.taps, attention, dots,
                                                    static_cast<A*>(gradients.locations) + 2 * first,
                                                    static_cast<A*>(gradients.weights) + first);
  }
  values.give_back();
}

}  // namespace

void ms_deform_attn_forward_cpu(const MsDeformAttnArgs& args, void* output, ParallelRunner run) {
  for_dtype(args.dtype, [&](auto zero) { forward(args, static_cast<decltype(zero)*>(output), run); });
}

void ms_deform_attn_backward_cpu(const MsDeformAttnArgs& args, const MsDeformAttnGradients& gradients,
                                 ParallelRunner run) {
  const int64_t grain = grain_of(4.0 * static_cast<double>(args.queries) * flops_of_head(args));
  for_dtype(args.dtype, [&](auto zero) {
    parallel_for(run, args.batch * args.heads, grain, [&](int64_t begin, int64_t end) {
      HeadValues<decltype(zero)> values(args);
      for (int64_t i = begin; i < end; ++i) backward_head(args, gradients, i / args.heads, i % args.heads, values);
    });
  });
}

}  // namespace fastdet
