// RoIAlign on the CPU: the weights of a RoI's bins are merged per cell once, then applied to all channels.
#include "roi_align.h"

#include <algorithm>
#include <vector>

#include "cpu_kernels.h"
#include "roi_tables.h"

namespace fastdet {
namespace {

constexpr int64_t kChannelBlock = 64;

template <typename A>
int level_of(const RoiAlignArgs& args, int64_t index) {
  if (args.roi_levels != nullptr) return static_cast<int>(args.roi_levels[index]);
  const A* roi = static_cast<const A*>(args.rois) + index * 5;
  return pyramid_level(roi[1], roi[2], roi[3], roi[4], static_cast<A>(args.finest_scale), args.num_levels);
}

template <typename A>
void build_tables(const RoiAlignArgs& args, int64_t index, const FeatureLevel& level, RoiTables<A>& tables) {
  const A* roi = static_cast<const A*>(args.rois) + index * 5;
  const A scale = static_cast<A>(level.scale);
  const RoiAxis<A> y = roi_axis(roi[2], roi[4], scale, args.out_h, args.sampling_ratio, args.aligned);
  const RoiAxis<A> x = roi_axis(roi[1], roi[3], scale, args.out_w, args.sampling_ratio, args.aligned);
  tables.y.build(y, args.out_h, static_cast<int>(level.height));
  tables.x.build(x, args.out_w, static_cast<int>(level.width));
  tables.count = sample_count(y, x);
}

bool is_channels_last(const FeatureLevel& level, int64_t channels) { return level.stride_c == 1 && channels > 1; }

int64_t pooled_nanoseconds(const RoiAlignArgs& args) {
  return std::max<int64_t>(1, args.channels * args.out_h * args.out_w);  // about 1 ns a value
}

// A RoI with its image on its level and its place in the result.
template <typename T>
struct PlacedRoi {
  RoiTables<accumulator_t<T>> tables;
  BinTable<accumulator_t<T>> columns;  // this and the next where channels lie apart
  RoiPlane<accumulator_t<T>> plane;
  const FeatureLevel* level;
  const T* image;
  T* out;
};

template <typename T>
void place_roi(const RoiAlignArgs& args, int64_t index, PlacedRoi<T>& roi) {
  using A = accumulator_t<T>;
  roi.level = &args.levels[level_of<A>(args, index)];
  const int64_t image = static_cast<int64_t>(static_cast<const A*>(args.rois)[index * 5]);
  roi.image = static_cast<const T*>(roi.level->data) + image * roi.level->stride_n;
  roi.out = static_cast<T*>(args.pooled) + index * args.channels * args.out_h * args.out_w;
  build_tables(args, index, *roi.level, roi.tables);
}

template <typename T>
void place_columns(const RoiAlignArgs& args, PlacedRoi<T>& roi) {
  const RoiWeights<accumulator_t<T>> weights = roi.tables.weights(args);
  const int x_begin = roi.tables.x.first_cell(), x_end = roi.tables.x.last_cell() + 1;
  roi.columns.build(weights.x, args.out_w, x_begin);
  roi.plane = {weights.y, roi.columns.taps(), x_begin, x_end, args.out_h, args.out_w, weights.count};
}

template <typename T>
void pool_rows(const RoiAlignArgs& args, const PlacedRoi<T>& roi, std::vector<T>& block) {
  const RoiAlignLoops<T>& loops = cpu_kernels().roi_align.get<T>();
  const RoiWeights<accumulator_t<T>> weights = roi.tables.weights(args);
  const ImageStrides strides{roi.level->stride_h, roi.level->stride_w};
  if (args.pooled_channels_last) return loops.forward_rows(roi.image, strides, args.channels, weights, roi.out);
  const int64_t bins = args.out_h * args.out_w;
  block.resize(bins * kChannelBlock);
  for (int64_t c = 0; c < args.channels; c += kChannelBlock) {
    const int64_t width = std::min(kChannelBlock, args.channels - c);
    loops.forward_rows(roi.image + c, strides, width, weights, block.data());
    for (int64_t k = 0; k < width; ++k) {
      for (int64_t bin = 0; bin < bins; ++bin) roi.out[(c + k) * bins + bin] = block[bin * width + k];
    }
  }
}

// A channel of all RoIs before the next channel: a plane lies on few pages, and what RoIs share of it is read once.
template <typename T>
void pool_planes(const RoiAlignArgs& args, const PlacedRoi<T>* rois, int64_t count, accumulator_t<T>* line) {
  const RoiAlignLoops<T>& loops = cpu_kernels().roi_align.get<T>();
  const int64_t bin_stride = args.pooled_channels_last ? args.channels : 1;
  const int64_t channel_stride = args.pooled_channels_last ? 1 : args.out_h * args.out_w;
  for (int64_t c = 0; c < args.channels; ++c) {
    for (int64_t i = 0; i < count; ++i) {
      const PlacedRoi<T>& roi = rois[i];
      const FeatureLevel& level = *roi.level;
      const T* plane = roi.image + c * level.stride_c;
      const int64_t plane_size = (level.height - 1) * level.stride_h + (level.width - 1) * level.stride_w + 1;
      const int64_t ahead = c + 1 < args.channels && level.stride_w == 1 ? level.stride_c : 0;
      loops.forward_plane(plane, plane + plane_size, ahead, {level.stride_h, level.stride_w}, roi.plane, line,
                          roi.out + c * channel_stride, bin_stride);
    }
  }
}

template <typename T>
void forward(const RoiAlignArgs& args, ParallelRunner run) {
  constexpr int64_t kRoisAtOnce = 64;  // what one channel of them reads stays in the second-level cache
  const int64_t pooled_values = args.channels * args.out_h * args.out_w;
  const int64_t grain = std::max<int64_t>(1, kMinTaskNanoseconds / pooled_nanoseconds(args));
  parallel_for(run, args.num_rois, grain, [&](int64_t begin, int64_t end) {
    std::vector<PlacedRoi<T>> rois(std::min(kRoisAtOnce, end - begin));
    std::vector<accumulator_t<T>> line;
    std::vector<T> block;
    for (int64_t first = begin; first < end; first += kRoisAtOnce) {
      int64_t planes = 0;
      for (int64_t index = first; index < std::min(end, first + kRoisAtOnce); ++index) {
        PlacedRoi<T>& roi = rois[planes];
        place_roi(args, index, roi);
        if (roi.tables.empty()) {
          std::fill_n(roi.out, pooled_values, narrow<T>(accumulator_t<T>(0)));
        } else if (is_channels_last(*roi.level, args.channels)) {
          pool_rows(args, roi, block);
        } else {
          place_columns(args, roi);
          line.resize(std::max<size_t>(line.size(), roi.plane.x_end - roi.plane.x_begin + kLinePadding));
          ++planes;
        }
      }
      pool_planes(args, rois.data(), planes, line.data());
    }
  });
}

// RoIs by image, in order: roi[starts[b] .. starts[b + 1]) lie on image b.
struct RoisByImage {
  std::vector<int64_t> starts;
  std::vector<int64_t> roi;
};

template <typename A>
RoisByImage split_by_image(const RoiAlignArgs& args) {
  const A* rois = static_cast<const A*>(args.rois);
  RoisByImage split{std::vector<int64_t>(args.batch + 1, 0), std::vector<int64_t>(args.num_rois)};
  for (int64_t i = 0; i < args.num_rois; ++i) ++split.starts[static_cast<int64_t>(rois[i * 5]) + 1];
  for (int64_t b = 0; b < args.batch; ++b) split.starts[b + 1] += split.starts[b];
  std::vector<int64_t> next(split.starts.begin(), split.starts.end() - 1);
  for (int64_t i = 0; i < args.num_rois; ++i) split.roi[next[static_cast<int64_t>(rois[i * 5])]++] = i;
  return split;
}

// Writes zeros to rows [begin, end) of all images and levels, numbered one level after the other in each image.
template <typename A>
void clear_rows(const RoiAlignArgs& args, int64_t begin, int64_t end) {
  int64_t rows = 0;
  for (int l = 0; l < args.num_levels; ++l) rows += args.levels[l].height;
  for (int64_t i = begin; i < end;) {
    int64_t y = i % rows;
    int l = 0;
    for (; y >= args.levels[l].height; ++l) y -= args.levels[l].height;
    const FeatureLevel& level = args.levels[l];
    const int64_t count = std::min(end - i, level.height - y);  // rows are dense: long stretches are written fastest
    A* row = static_cast<A*>(level.data) + i / rows * level.stride_n + y * level.stride_h;
    std::fill_n(row, count * level.stride_h, A(0));
    i += count;
  }
}

template <typename A>
void clear_plane(const FeatureLevel& level, int64_t image, int64_t channel) {
  A* plane = static_cast<A*>(level.data) + image * level.stride_n + channel * level.stride_c;
  for (int64_t y = 0; y < level.height; ++y) {
    A* row = plane + y * level.stride_h;
    if (level.stride_w == 1) std::fill_n(row, level.width, A(0));
    else for (int64_t x = 0; x < level.width; ++x) row[x * level.stride_w] = A(0);
  }
}

// The gradient of one RoI for channels [c_begin, c_end), divided by the sample count, as [bin, channel] or
// [channel, bin].
template <typename T>
void gather_gradient(const RoiAlignArgs& args, int64_t index, int64_t c_begin, int64_t c_end, accumulator_t<T> count,
                     bool channels_inside, std::vector<accumulator_t<T>>& block) {
  const int64_t bins = args.out_h * args.out_w;
  const int64_t width = c_end - c_begin;
  const T* grad = static_cast<const T*>(args.pooled) + index * args.channels * bins;
  const int64_t bin_stride = args.pooled_channels_last ? args.channels : 1;
  const int64_t channel_stride = args.pooled_channels_last ? 1 : bins;
  block.resize(bins * width);
  for (int64_t k = 0; k < width; ++k) {
    for (int64_t bin = 0; bin < bins; ++bin) {
      const int64_t to = channels_inside ? bin * width + k : k * bins + bin;
      block[to] = widen(grad[bin * bin_stride + (c_begin + k) * channel_stride]) / count;
    }
  }
}

// A task owns one image and a few channels: no two threads touch the same cell, and each cell is summed in RoI order
// whatever the number of threads.
template <typename T>
class Backward {
 public:
  using A = accumulator_t<T>;

  explicit Backward(const RoiAlignArgs& args)
      : args_(args), split_(split_by_image<A>(args)), level_of_roi_(args.num_rois), tables_(args.num_rois) {}

  void run(ParallelRunner run) {
    constexpr int64_t kTableNanoseconds = 2000;
    parallel_for(run, args_.num_rois, kMinTaskNanoseconds / kTableNanoseconds, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        level_of_roi_[i] = level_of<A>(args_, i);
        build_tables(args_, i, args_.levels[level_of_roi_[i]], tables_[i]);
      }
    });
    bool channels_inside = true;
    int64_t rows = 0;
    for (int l = 0; l < args_.num_levels; ++l) {
      channels_inside = channels_inside && is_channels_last(args_.levels[l], args_.channels);
      rows += args_.levels[l].height;
    }
    if (channels_inside) {
      const int64_t row_nanoseconds = 1 + args_.levels[0].width * args_.channels / 4;  // new memory, 4 numbers a ns
      parallel_for(run, args_.batch * rows, std::max<int64_t>(1, kMinTaskNanoseconds / row_nanoseconds),
                   [&](int64_t begin, int64_t end) { clear_rows<A>(args_, begin, end); });
    }
    // Rows are added for all channels of a thread at once, as they lie in memory; all planes of a channel stay in the
    // cache while the RoIs pass over them.
    constexpr int64_t kPlanes = 1, kLeastChannels = 16;
    const int64_t width = channels_inside ? kLeastChannels : kPlanes;
    const int64_t most = channels_inside ? args_.channels : kPlanes;
    const int64_t blocks = (args_.channels + width - 1) / width;
    const int64_t tasks = args_.batch * blocks;
    const int64_t nanoseconds = args_.num_rois * pooled_nanoseconds(args_) / std::max<int64_t>(1, tasks);
    const int64_t grain = std::max<int64_t>(1, kMinTaskNanoseconds / std::max<int64_t>(1, nanoseconds));
    parallel_for(run, tasks, grain, [&](int64_t begin, int64_t end) {
      std::vector<A> line;
      std::vector<A> block;
      while (begin < end) {
        const int64_t image = begin / blocks;
        const int64_t c_begin = begin % blocks * width;
        const int64_t c_end = std::min({args_.channels, c_begin + (end - begin) * width, c_begin + most});
        if (channels_inside) add_rows(image, c_begin, c_end, block);
        else add_planes(image, c_begin, c_end, line, block);
        begin += (c_end - c_begin + width - 1) / width;
      }
    });
  }

 private:
  A* level_data(int64_t roi, int64_t image, int64_t channel) const {
    const FeatureLevel& level = args_.levels[level_of_roi_[roi]];
    return static_cast<A*>(level.data) + image * level.stride_n + channel * level.stride_c;
  }

  ImageStrides strides(int64_t roi) const {
    const FeatureLevel& level = args_.levels[level_of_roi_[roi]];
    return {level.stride_h, level.stride_w};
  }

  void add_rows(int64_t image, int64_t c_begin, int64_t c_end, std::vector<A>& block) const {
    const RoiAlignGradientLoops<A>& loops = cpu_kernels().roi_align_gradient.get<A>();
    for (int64_t i = split_.starts[image]; i < split_.starts[image + 1]; ++i) {
      const int64_t roi = split_.roi[i];
      if (tables_[roi].empty()) continue;
      gather_gradient<T>(args_, roi, c_begin, c_end, tables_[roi].count, true, block);
      loops.rows(level_data(roi, image, c_begin), strides(roi), c_end - c_begin, tables_[roi].weights(args_),
                 block.data());
    }
  }

  void add_planes(int64_t image, int64_t c_begin, int64_t c_end, std::vector<A>& line, std::vector<A>& block) const {
    const RoiAlignGradientLoops<A>& loops = cpu_kernels().roi_align_gradient.get<A>();
    for (int l = 0; l < args_.num_levels; ++l) {
      for (int64_t c = c_begin; c < c_end; ++c) clear_plane<A>(args_.levels[l], image, c);
    }
    for (int64_t i = split_.starts[image]; i < split_.starts[image + 1]; ++i) {
      const int64_t roi = split_.roi[i];
      const RoiTables<A>& tables = tables_[roi];
      if (tables.empty()) continue;
      gather_gradient<T>(args_, roi, c_begin, c_end, tables.count, false, block);
      const int x_begin = tables.x.first_cell();
      const int x_end = tables.x.last_cell() + 1;
      line.resize(x_end - x_begin + kLinePadding);
      const FeatureLevel& level = args_.levels[level_of_roi_[roi]];
      const int64_t plane_size = (level.height - 1) * level.stride_h + (level.width - 1) * level.stride_w + 1;
      for (int64_t c = c_begin; c < c_end; ++c) {
        A* plane = level_data(roi, image, c);
        loops.plane(plane, plane + plane_size, strides(roi), tables.weights(args_), x_begin, x_end, line.data(),
                    block.data() + (c - c_begin) * args_.out_h * args_.out_w);
      }
    }
  }

  const RoiAlignArgs& args_;
  RoisByImage split_;
  std::vector<int> level_of_roi_;
  std::vector<RoiTables<A>> tables_;
};

template <typename A>
int64_t first_bad_roi(const RoiAlignArgs& args) {
  const A* rois = static_cast<const A*>(args.rois);
  for (int64_t i = 0; i < args.num_rois; ++i) {
    const A image = rois[i * 5];
    if (!(image >= A(0) && image < A(args.batch))) return i;
    if (args.roi_levels != nullptr && (args.roi_levels[i] < 0 || args.roi_levels[i] >= args.num_levels)) return i;
  }
  return -1;
}

}  // namespace

int64_t roi_align_first_bad_roi(const RoiAlignArgs& args) {
  return args.dtype == DType::kFloat64 ? first_bad_roi<double>(args) : first_bad_roi<float>(args);
}

void roi_align_forward_cpu(const RoiAlignArgs& args, ParallelRunner run) {
  for_dtype(args.dtype, [&](auto zero) { forward<decltype(zero)>(args, run); });
}

void roi_align_backward_cpu(const RoiAlignArgs& args, ParallelRunner run) {
  for_dtype(args.dtype, [&](auto zero) { Backward<decltype(zero)>(args).run(run); });
}

}  // namespace fastdet
