// Deformable convolution on the CPU: columns of one kernel tap for a tile of positions stay in the cache, where a
// matrix product consumes them, so that the full columns never exist.
#include "deform_conv2d.h"

#include <algorithm>
#include <vector>

#include "cpu_kernels.h"

namespace fastdet {
namespace {

constexpr int64_t kTileRows = 192;        // positions whose columns of one tap fit the second-level cache
constexpr int64_t kGatherChannels = 128;  // channels of the map that stay in that cache while all taps are read
constexpr int64_t kTaskChannels = 64;    // channels that one task of the backward pass owns
constexpr int64_t kMostShards = 8;        // parts of the batch with weight gradients of their own
constexpr int64_t kFlopsPerNanosecond = 50;

static_assert(kTileRows % kGemmRowMultiple == 0, "tiles are whole steps");

int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

int64_t grain_of(double flops_per_task) {
  const double nanoseconds = flops_per_task / kFlopsPerNanosecond;
  return std::max<int64_t>(1, static_cast<int64_t>(kMinTaskNanoseconds / std::max(nanoseconds, 1.0)));
}

template <typename T>
std::vector<accumulator_t<T>> widened(const void* values, int64_t size) {
  const T* from = static_cast<const T*>(values);
  std::vector<accumulator_t<T>> wide(size);
  for (int64_t i = 0; i < size; ++i) wide[i] = widen(from[i]);
  return wide;
}

// The taps of positions [begin, end) of one image at one place of the kernel.
template <typename A>
void fill_taps(const DeformConv2dArgs& args, int64_t image, int64_t offset_group, int64_t tap, int64_t begin,
               int64_t end, DeformTap<A>* taps) {
  const int64_t positions = args.positions();
  const int64_t plane = (image * args.offset_groups + offset_group) * args.taps() + tap;
  const A* y_offset = static_cast<const A*>(args.offset) + 2 * plane * positions;
  const A* x_offset = y_offset + positions;
  const A* mask = args.mask == nullptr ? nullptr : static_cast<const A*>(args.mask) + plane * positions;
  const int64_t y_tap = (tap / args.kernel_w) * args.dilation_h - args.padding_h;
  const int64_t x_tap = (tap % args.kernel_w) * args.dilation_w - args.padding_w;
  int64_t y = begin / args.out_w;
  int64_t x = begin % args.out_w;
  for (int64_t p = begin; p < end; ++p, ++taps) {
    taps->tap = bilinear_tap(A(y * args.stride_h + y_tap) + y_offset[p], A(x * args.stride_w + x_tap) + x_offset[p],
                             args.height, args.width);
    taps->mask = mask == nullptr ? A(1) : mask[p];
    if (++x == args.out_w) {
      x = 0;
      ++y;
    }
  }
}

// Channels [begin, end) of one weight group and one offset group.
struct ChannelSegment {
  int64_t begin;
  int64_t end;
  int64_t group;
  int64_t offset_group;

  int64_t size() const { return end - begin; }
};

std::vector<ChannelSegment> split_channels(const DeformConv2dArgs& args, int64_t most) {
  const int64_t group_size = args.channels / args.groups;
  const int64_t share = args.channels / args.offset_groups;
  std::vector<ChannelSegment> segments;
  for (int64_t begin = 0; begin < args.channels;) {
    const int64_t group = begin / group_size;
    const int64_t offset_group = begin / share;
    const int64_t end = std::min({(group + 1) * group_size, (offset_group + 1) * share, begin + most});
    segments.push_back({begin, end, group, offset_group});
    begin = end;
  }
  return segments;
}

template <typename T>
class Forward {
 public:
  using A = accumulator_t<T>;

  Forward(const DeformConv2dArgs& args, void* output, bool channels_last, ParallelRunner run)
      : args_(args),
        output_(static_cast<T*>(output)),
        channels_last_(channels_last),
        gemm_(cpu_kernels().gemm.get<A>()),
        group_in_(args.channels / args.groups),
        group_out_(args.out_channels / args.groups),
        padded_out_(round_up(group_out_, gemm_.panel_columns)),
        segments_(split_channels(args, kGatherChannels)),
        bias_(args.bias == nullptr ? std::vector<A>(args.out_channels, A(0))
                                   : widened<T>(args.bias, args.out_channels)) {
    pack_weight(run);
  }

  void run_tiles(ParallelRunner run) {
    const int64_t tiles_per_image = (args_.positions() + kTileRows - 1) / kTileRows;
    const double flops = 2.0 * static_cast<double>(std::min(kTileRows, args_.positions()) * args_.taps() * group_in_) *
                         static_cast<double>(args_.out_channels);
    parallel_for(run, args_.batch * tiles_per_image, grain_of(flops), [&](int64_t begin, int64_t end) {
      std::vector<A> columns(kTileRows * kGatherChannels);
      std::vector<A> sums(kTileRows * args_.groups * padded_out_);
      std::vector<DeformTap<A>> taps(kTileRows);
      for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t first = (tile % tiles_per_image) * kTileRows;
        const int64_t last = std::min(first + kTileRows, args_.positions());
        convolve(tile / tiles_per_image, first, last, columns.data(), sums, taps.data());
      }
    });
  }

 private:
  void pack_weight(ParallelRunner run) {
    const std::vector<A> weight = widened<T>(args_.weight, args_.out_channels * group_in_ * args_.taps());
    packed_.resize(segments_.size());
    const int64_t size = args_.taps() * group_out_ * kGatherChannels;
    const int64_t grain = std::max<int64_t>(1, kMinTaskNanoseconds / size);
    parallel_for(run, static_cast<int64_t>(segments_.size()), grain, [&](int64_t begin, int64_t end) {
      for (int64_t s = begin; s < end; ++s) {
        const ChannelSegment& segment = segments_[s];
        const A* from = weight.data() +
                        (segment.group * group_out_ * group_in_ + segment.begin % group_in_) * args_.taps();
        packed_[s].resize(args_.taps() * padded_out_ * segment.size());
        for (int64_t tap = 0; tap < args_.taps(); ++tap) {
          gemm_.pack(from + tap, args_.taps(), group_in_ * args_.taps(), segment.size(), group_out_,
                     packed_[s].data() + tap * padded_out_ * segment.size());
        }
      }
    });
  }

  void convolve(int64_t image, int64_t first, int64_t last, A* columns, std::vector<A>& sums, DeformTap<A>* taps) {
    const int64_t rows = last - first;
    const T* cells = static_cast<const T*>(args_.input) + image * args_.height * args_.width * args_.channels;
    std::fill(sums.begin(), sums.end(), A(0));
    for (size_t s = 0; s < segments_.size(); ++s) {
      const ChannelSegment& segment = segments_[s];
      for (int64_t tap = 0; tap < args_.taps(); ++tap) {
        fill_taps(args_, image, segment.offset_group, tap, first, last, taps);
        cpu_kernels().deform.get<T>().gather(cells + segment.begin, args_.channels, taps, rows, segment.size(), columns,
                                             segment.size());
        gemm_.multiply(columns, segment.size(), 1, packed_[s].data() + tap * padded_out_ * segment.size(), rows,
                       group_out_, segment.size(), sums.data() + segment.group * padded_out_,
                       args_.groups * padded_out_);
      }
    }
    if (channels_last_) write_rows(image, first, last, sums.data());
    else write_planes(image, first, last, sums.data());
  }

  void write_rows(int64_t image, int64_t first, int64_t last, const A* sums) const {
    T* out = output_ + (image * args_.positions() + first) * args_.out_channels;
    for (int64_t row = 0; row < (last - first) * args_.groups; ++row, sums += padded_out_, out += group_out_) {
      const A* bias = bias_.data() + row % args_.groups * group_out_;
      for (int64_t o = 0; o < group_out_; ++o) out[o] = narrow<T>(sums[o] + bias[o]);
    }
  }

  void write_planes(int64_t image, int64_t first, int64_t last, const A* sums) const {
    for (int64_t o = 0; o < args_.out_channels; ++o) {
      const A* sum = sums + o / group_out_ * padded_out_ + o % group_out_;
      T* out = output_ + (image * args_.out_channels + o) * args_.positions();
      for (int64_t p = first; p < last; ++p, sum += args_.groups * padded_out_) out[p] = narrow<T>(*sum + bias_[o]);
    }
  }

  const DeformConv2dArgs& args_;
  T* output_;
  bool channels_last_;
  const GemmLoops<A>& gemm_;
  int64_t group_in_;
  int64_t group_out_;
  int64_t padded_out_;
  std::vector<ChannelSegment> segments_;
  std::vector<A> bias_;
  std::vector<std::vector<A>> packed_;  // [segment][tap, channel, out] in panels
};

// A task owns one segment of channels in one part of the batch: no two tasks write the same sum, and what the tasks
// leave is added in a fixed order.
template <typename T>
class Backward {
 public:
  using A = accumulator_t<T>;

  Backward(const DeformConv2dArgs& args, const DeformConv2dGradients& gradients)
      : args_(args),
        gradients_(gradients),
        gemm_(cpu_kernels().gemm.get<A>()),
        group_in_(args.channels / args.groups),
        group_out_(args.out_channels / args.groups),
        padded_out_(round_up(group_out_, gemm_.panel_columns)),
        segments_(split_channels(args, kTaskChannels)),
        shards_(std::min(args.batch, kMostShards)),
        weight_(widened<T>(args.weight, args.out_channels * group_in_ * args.taps())),
        slopes_(segments_.size() * args.batch * args.taps() * 3 * args.positions()),
        weight_sums_(segments_.size() * shards_) {}

  void run_all(ParallelRunner run) {
    const int64_t num_segments = static_cast<int64_t>(segments_.size());
    // Two matrix products and the scattering of the columns, which takes about as long.
    const double flops = 8.0 * static_cast<double>(args_.batch * args_.positions() * args_.taps()) *
                         static_cast<double>(args_.channels * group_out_) / static_cast<double>(num_segments * shards_);
    parallel_for(run, num_segments * shards_, grain_of(flops), [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) run_task(task % num_segments, task / num_segments);
    });
    add_slopes(run);
    add_weights(run);
  }

 private:
  struct Buffers {
    std::vector<A> packed_weight;   // [tap][out, segment] in panels
    std::vector<A> output;          // [row, out]
    std::vector<A> packed_output;   // the same in panels
    std::vector<A> gradient;        // [row, channel]
    std::vector<A> columns;         // [row, channel]
    std::vector<A> dots;            // [row, corner]
    std::vector<DeformTap<A>> taps;
  };

  void run_task(int64_t index, int64_t shard) {
    const ChannelSegment& segment = segments_[index];
    const int64_t width = round_up(segment.size(), gemm_.panel_columns);
    Buffers buffers;
    buffers.packed_weight.resize(args_.taps() * width * group_out_);
    buffers.output.resize(kTileRows * group_out_);
    buffers.packed_output.resize(kTileRows * padded_out_);
    buffers.gradient.resize(kTileRows * width);
    buffers.columns.resize(kTileRows * width);
    buffers.dots.resize(kTileRows * 4);
    buffers.taps.resize(kTileRows);
    const A* weight = weight_.data() + (segment.group * group_out_ * group_in_ + segment.begin % group_in_) * args_.taps();
    for (int64_t tap = 0; tap < args_.taps(); ++tap) {
      gemm_.pack(weight + tap, group_in_ * args_.taps(), args_.taps(), group_out_, segment.size(),
                 buffers.packed_weight.data() + tap * width * group_out_);
    }
    std::vector<A>& weight_sum = weight_sums_[index * shards_ + shard];
    weight_sum.assign(args_.taps() * sum_rows(segment) * padded_out_, A(0));
    for (int64_t image = shard * args_.batch / shards_; image < (shard + 1) * args_.batch / shards_; ++image) {
      for (int64_t first = 0; first < args_.positions(); first += kTileRows) {
        run_tile(index, image, first, std::min(first + kTileRows, args_.positions()), buffers, weight_sum.data());
      }
    }
  }

  int64_t sum_rows(const ChannelSegment& segment) const { return round_up(segment.size(), kGemmRowMultiple); }

  void run_tile(int64_t index, int64_t image, int64_t first, int64_t last, Buffers& buffers, A* weight_sum) {
    const ChannelSegment& segment = segments_[index];
    const int64_t width = round_up(segment.size(), gemm_.panel_columns);
    const int64_t rows = last - first;
    const int64_t image_at = image * args_.height * args_.width * args_.channels + segment.begin;
    read_output(segment.group, image, first, last, buffers.output.data());
    gemm_.pack(buffers.output.data(), group_out_, 1, rows, group_out_, buffers.packed_output.data());
    for (int64_t tap = 0; tap < args_.taps(); ++tap) {
      std::fill(buffers.gradient.begin(), buffers.gradient.end(), A(0));
      gemm_.multiply(buffers.output.data(), group_out_, 1, buffers.packed_weight.data() + tap * width * group_out_,
                     rows, segment.size(), group_out_, buffers.gradient.data(), width);
      fill_taps(args_, image, segment.offset_group, tap, first, last, buffers.taps.data());
      cpu_kernels().deform.get<T>().scatter(
          static_cast<const T*>(args_.input) + image_at, static_cast<A*>(gradients_.input) + image_at, args_.channels,
          buffers.taps.data(), rows, segment.size(), buffers.gradient.data(), buffers.columns.data(), width,
          buffers.dots.data());
      gemm_.multiply(buffers.columns.data(), 1, width, buffers.packed_output.data(), segment.size(), group_out_, rows,
                     weight_sum + tap * sum_rows(segment) * padded_out_, padded_out_);
      write_slopes(index, image, tap, first, last, buffers);
    }
  }

  void read_output(int64_t group, int64_t image, int64_t first, int64_t last, A* rows) const {
    for (int64_t p = first; p < last; ++p, rows += group_out_) {
      const T* from = static_cast<const T*>(gradients_.output) +
                      (image * args_.positions() + p) * args_.out_channels + group * group_out_;
      for (int64_t o = 0; o < group_out_; ++o) rows[o] = widen(from[o]);
    }
  }

  A* slopes(int64_t index, int64_t image, int64_t tap) {
    return slopes_.data() + ((index * args_.batch + image) * args_.taps() + tap) * 3 * args_.positions();
  }

  void write_slopes(int64_t index, int64_t image, int64_t tap, int64_t first, int64_t last, const Buffers& buffers) {
    const int64_t positions = args_.positions();
    A* to = slopes(index, image, tap);
    for (int64_t p = first; p < last; ++p) {
      const DeformTap<A>& at = buffers.taps[p - first];
      const TapValue<A> slope = tap_value(at.tap, buffers.dots.data() + (p - first) * 4);
      to[p] = slope.value;
      to[positions + p] = at.mask * slope.y_slope;
      to[2 * positions + p] = at.mask * slope.x_slope;
    }
  }

  // Mask and offset gradients: the segments of an offset group, in order.
  void add_slopes(ParallelRunner run) {
    const int64_t positions = args_.positions();
    const int64_t grain = std::max<int64_t>(1, kMinTaskNanoseconds / std::max<int64_t>(1, positions));
    parallel_for(run, args_.batch * args_.taps(), grain, [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t image = item / args_.taps(), tap = item % args_.taps();
        for (size_t s = 0; s < segments_.size(); ++s) {
          const int64_t offset_group = segments_[s].offset_group;
          const bool is_first = s == 0 || segments_[s - 1].offset_group != offset_group;
          const int64_t plane = (image * args_.offset_groups + offset_group) * args_.taps() + tap;
          const A* from = slopes(static_cast<int64_t>(s), image, tap);
          A* mask = gradients_.mask == nullptr ? nullptr : static_cast<A*>(gradients_.mask) + plane * positions;
          A* offset = static_cast<A*>(gradients_.offset) + 2 * plane * positions;
          for (int64_t p = 0; mask != nullptr && p < positions; ++p) mask[p] = from[p] + (is_first ? A(0) : mask[p]);
          for (int64_t p = 0; p < 2 * positions; ++p) offset[p] = from[positions + p] + (is_first ? A(0) : offset[p]);
        }
      }
    });
  }

  void add_weights(ParallelRunner run) {
    const int64_t grain = std::max<int64_t>(
        1, kMinTaskNanoseconds / std::max<int64_t>(1, kTaskChannels * args_.taps() * group_out_ * shards_));
    parallel_for(run, static_cast<int64_t>(segments_.size()), grain, [&](int64_t begin, int64_t end) {
      for (int64_t s = begin; s < end; ++s) {
        const ChannelSegment& segment = segments_[s];
        A* weight = static_cast<A*>(gradients_.weight) +
                    (segment.group * group_out_ * group_in_ + segment.begin % group_in_) * args_.taps();
        for (int64_t o = 0; o < group_out_; ++o) {
          for (int64_t c = 0; c < segment.size(); ++c) {
            for (int64_t tap = 0; tap < args_.taps(); ++tap) {
              const int64_t at = (tap * sum_rows(segment) + c) * padded_out_ + o;
              A sum = A(0);
              for (int64_t shard = 0; shard < shards_; ++shard) sum += weight_sums_[s * shards_ + shard][at];
              weight[(o * group_in_ + c) * args_.taps() + tap] = sum;
            }
          }
        }
      }
    });
  }

  const DeformConv2dArgs& args_;
  const DeformConv2dGradients& gradients_;
  const GemmLoops<A>& gemm_;
  int64_t group_in_;
  int64_t group_out_;
  int64_t padded_out_;
  std::vector<ChannelSegment> segments_;
  int64_t shards_;
  std::vector<A> weight_;
  std::vector<A> slopes_;  // [segment, image, tap, (mask, y, x), position]
  std::vector<std::vector<A>> weight_sums_;  // [segment, shard][tap, channel, out]
};

}  // namespace

void deform_conv2d_forward_cpu(const DeformConv2dArgs& args, void* output, bool channels_last, ParallelRunner run) {
  for_dtype(args.dtype, [&](auto zero) { Forward<decltype(zero)>(args, output, channels_last, run).run_tiles(run); });
}

void deform_conv2d_backward_cpu(const DeformConv2dArgs& args, const DeformConv2dGradients& gradients,
                                ParallelRunner run) {
  for_dtype(args.dtype, [&](auto zero) { Backward<decltype(zero)>(args, gradients).run_all(run); });
}

}  // namespace fastdet
