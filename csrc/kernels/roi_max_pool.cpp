// Maximum pooling of RoIs on the CPU: a vector holds channels. Gradients are added by the number of the chosen cell.
#include "roi_max_pool.h"

#include <algorithm>
#include <vector>

#include "cpu_kernels.h"

namespace fastdet {
namespace {

constexpr int64_t kChannelBlock = 64;
constexpr int64_t kPlanes = 16;

template <typename A>
struct Place {
  RoiMaxAxis<A> y;
  RoiMaxAxis<A> x;
  const FeatureLevel* level;
  int64_t image;
};

template <typename A>
int level_of(const RoiAlignArgs& roi, const A* box, int64_t index) {
  if (roi.roi_levels != nullptr) return static_cast<int>(roi.roi_levels[index]);
  return pyramid_level(box[1], box[2], box[3], box[4], static_cast<A>(roi.finest_scale), roi.num_levels);
}

template <typename A>
Place<A> place_of(const RoiMaxPoolArgs& args, int64_t index) {
  const RoiAlignArgs& roi = args.roi;
  const A* box = static_cast<const A*>(roi.rois) + index * 5;
  const FeatureLevel* map = &roi.levels[level_of(roi, box, index)];
  const A scale = static_cast<A>(map->scale);
  return {roi_max_axis(args, box[2], box[4], scale, roi.out_h, map->height),
          roi_max_axis(args, box[1], box[3], scale, roi.out_w, map->width), map, static_cast<int64_t>(box[0])};
}

// Calls function(number, taps) for each sample of a bin.
template <typename A, typename Function>
void for_samples(const Place<A>& place, int64_t bin_y, int64_t bin_x, const Function& function) {
  const CellRange ys = samples_of(place.y, bin_y), xs = samples_of(place.x, bin_x);
  int32_t number = 0;
  for (int64_t i = ys.begin; i < ys.end; ++i) {
    const AxisSample<A> y = sample_at(place.y, bin_y, i);
    for (int64_t j = xs.begin; j < xs.end; ++j, ++number) {
      function(number, sample_taps(y, sample_at(place.x, bin_x, j), place.level->stride_h, place.level->stride_w));
    }
  }
}

// Cells of planes are copied, so that the channels of a cell lie together.
constexpr int64_t kTileChannels = 16;
constexpr int64_t kTileCells = 4096;

template <typename T>
struct Scratch {
  std::vector<accumulator_t<T>> best;  // of samples
  std::vector<T> tile;                 // of cells, kTileChannels each
  std::vector<T> largest;              // of a bin, kTileChannels each
  std::vector<int32_t> chosen;
  std::vector<CellRange> ys, xs;
};

// The cells of [ys, xs) for `channels` channels from `first` on.
template <typename T>
void copy_cells(const T* first, const FeatureLevel& level, CellRange ys, CellRange xs, int64_t channels, T* tile) {
  const int64_t columns = xs.end - xs.begin;
  for (int64_t y = ys.begin; y < ys.end; ++y, tile += columns * kTileChannels) {
    for (int64_t c = 0; c < channels; ++c) {
      const T* from = first + c * level.stride_c + y * level.stride_h + xs.begin * level.stride_w;
      T* to = tile + c;
      for (int64_t x = 0; x < columns; ++x) to[x * kTileChannels] = from[x * level.stride_w];
    }
  }
}

bool holds(CellRange range) { return range.begin < range.end; }

// What the bins [begin, end) cover together; bins are in order.
CellRange cover(const std::vector<CellRange>& bins, int64_t begin, int64_t end) {
  return {bins[begin].begin, std::max(bins[begin].begin, bins[end - 1].end)};
}

// The largest cell of bins for `channels` channels. `cells` points to the cell (top, left), whose channels lie together.
template <typename T>
void pool_bins(const T* cells, const FeatureLevel& level, int64_t stride_y, int64_t stride_x, int64_t top, int64_t left,
               int64_t begin, int64_t end, int64_t channels, const std::vector<CellRange>& ys,
               const std::vector<CellRange>& xs, T* largest, int32_t* chosen, int64_t bin_stride) {
  const int64_t columns = static_cast<int64_t>(xs.size());
  for (int64_t bin_y = begin; bin_y < end; ++bin_y) {
    for (int64_t bin_x = 0; bin_x < columns; ++bin_x) {
      const CellRange y = ys[bin_y], x = xs[bin_x];
      T* value = largest + (bin_y * columns + bin_x) * bin_stride;
      int32_t* number = chosen + (bin_y * columns + bin_x) * bin_stride;
      if (!holds(y) || !holds(x)) {
        std::fill(value, value + channels, narrow<T>(accumulator_t<T>(0)));
        std::fill(number, number + channels, -1);
        continue;
      }
      const CellRectangle rectangle{y.end - y.begin, x.end - x.begin, stride_y, stride_x,
                                    static_cast<int32_t>(y.begin * level.width + x.begin),
                                    static_cast<int32_t>(level.width)};
      cpu_kernels().largest_cell.get<T>().largest(cells + (y.begin - top) * stride_y + (x.begin - left) * stride_x,
                                                  rectangle, channels, value, number);
    }
  }
}

template <typename T>
void forward_cells(const RoiMaxPoolArgs& args, int64_t index, const Place<accumulator_t<T>>& place,
                   Scratch<T>& scratch) {
  const RoiAlignArgs& roi = args.roi;
  const FeatureLevel& level = *place.level;
  const T* image = static_cast<const T*>(level.data) + place.image * level.stride_n;
  const int64_t bins = roi.out_h * roi.out_w;
  T* out = static_cast<T*>(roi.pooled) + index * roi.channels * bins;
  int32_t* out_chosen = args.chosen + index * roi.channels * bins;
  scratch.ys.resize(roi.out_h);
  scratch.xs.resize(roi.out_w);
  for (int64_t bin = 0; bin < roi.out_h; ++bin) scratch.ys[bin] = samples_of(place.y, bin);
  for (int64_t bin = 0; bin < roi.out_w; ++bin) scratch.xs[bin] = samples_of(place.x, bin);
  if (level.stride_c == 1 && roi.pooled_channels_last) {
    pool_bins(image, level, level.stride_h, level.stride_w, 0, 0, 0, roi.out_h, roi.channels, scratch.ys, scratch.xs,
              out, out_chosen, roi.channels);
    return;
  }
  scratch.largest.resize(bins * kTileChannels);
  scratch.chosen.resize(bins * kTileChannels);
  const CellRange xs = cover(scratch.xs, 0, roi.out_w), all_ys = cover(scratch.ys, 0, roi.out_h);
  const int64_t columns = xs.end - xs.begin;
  const int64_t rows_of_bins = (all_ys.end - all_ys.begin) * columns <= kTileCells ? roi.out_h : 1;
  for (int64_t first = 0; first < roi.channels; first += kTileChannels) {
    const int64_t channels = std::min(kTileChannels, roi.channels - first);
    for (int64_t begin = 0; begin < roi.out_h; begin += rows_of_bins) {
      const CellRange ys = cover(scratch.ys, begin, begin + rows_of_bins);
      scratch.tile.resize(std::max<size_t>(scratch.tile.size(), (ys.end - ys.begin) * columns * kTileChannels));
      copy_cells(image + first * level.stride_c, level, ys, xs, channels, scratch.tile.data());
      pool_bins(scratch.tile.data(), level, columns * kTileChannels, kTileChannels, ys.begin, xs.begin, begin,
                begin + rows_of_bins, channels, scratch.ys, scratch.xs, scratch.largest.data(), scratch.chosen.data(),
                kTileChannels);
    }
    const int64_t bin_stride = roi.pooled_channels_last ? roi.channels : 1;
    const int64_t channel_stride = roi.pooled_channels_last ? 1 : bins;
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t at = (first + c) * channel_stride;
      for (int64_t bin = 0; bin < bins; ++bin) {
        out[at + bin * bin_stride] = scratch.largest[bin * kTileChannels + c];
        out_chosen[at + bin * bin_stride] = scratch.chosen[bin * kTileChannels + c];
      }
    }
  }
}

template <typename T>
void forward_roi(const RoiMaxPoolArgs& args, int64_t index, Scratch<T>& scratch) {
  using A = accumulator_t<T>;
  const RoiAlignArgs& roi = args.roi;
  const Place<A> place = place_of<A>(args, index);
  const FeatureLevel& level = *place.level;
  if (args.mode != RoiMaxMode::kSamples) return forward_cells<T>(args, index, place, scratch);
  scratch.best.resize(roi.channels);
  scratch.chosen.resize(roi.channels);
  std::vector<A>& best = scratch.best;
  std::vector<int32_t>& chosen = scratch.chosen;
  const T* image = static_cast<const T*>(level.data) + place.image * level.stride_n;
  const int64_t bins = roi.out_h * roi.out_w;
  const int64_t bin_stride = roi.pooled_channels_last ? roi.channels : 1;
  const int64_t channel_stride = roi.pooled_channels_last ? 1 : bins;
  T* out = static_cast<T*>(roi.pooled) + index * roi.channels * bins;
  int32_t* out_chosen = args.chosen + index * roi.channels * bins;
  for (int64_t bin = 0; bin < bins; ++bin) {
    std::fill(best.begin(), best.end(), A(0));
    std::fill(chosen.begin(), chosen.end(), -1);
    for_samples(place, bin / roi.out_w, bin % roi.out_w, [&](int32_t number, const SampleTaps<A>& taps) {
      if (level.stride_c == 1) {
        cpu_kernels().raise_maximum.get<T>().raise(image, taps, roi.channels, number, number == 0, best.data(),
                                                   chosen.data());
        return;
      }
      for (int64_t c = 0; c < roi.channels; ++c) {
        const T* plane = image + c * level.stride_c;
        A value = A(0);
        for (int t = 0; t < taps.count; ++t) value += taps.weight[t] * widen(plane[taps.offset[t]]);
        if (number != 0 && !(value > best[c])) continue;
        best[c] = value;
        chosen[c] = number;
      }
    });
    for (int64_t c = 0; c < roi.channels; ++c) {
      out[bin * bin_stride + c * channel_stride] = narrow<T>(best[c]);
      out_chosen[bin * bin_stride + c * channel_stride] = chosen[c];
    }
  }
}

int64_t roi_nanoseconds(const RoiAlignArgs& roi) { return std::max<int64_t>(1, roi.channels * roi.out_h * roi.out_w); }

template <typename T>
void forward(const RoiMaxPoolArgs& args, ParallelRunner run) {
  const int64_t grain = std::max<int64_t>(1, kMinTaskNanoseconds / roi_nanoseconds(args.roi));
  parallel_for(run, args.roi.num_rois, grain, [&](int64_t begin, int64_t end) {
    Scratch<T> scratch;
    for (int64_t index = begin; index < end; ++index) forward_roi<T>(args, index, scratch);
  });
}

// The gradient of one RoI to the cells of one level's image for the channels [begin, end), in order of channels.
template <typename T>
void add_planes(const RoiMaxPoolArgs& args, const FeatureLevel& level, int64_t index, int64_t begin, int64_t end,
                accumulator_t<T>* image, accumulator_t<T>* wide) {
  const int64_t bins = args.roi.out_h * args.roi.out_w;
  for (int64_t c = begin; c < end; ++c) {
    const int64_t at = (index * args.roi.channels + c) * bins;
    const int32_t* chosen = args.chosen + at;
    accumulator_t<T>* plane = image + c * level.stride_c;
    cpu_kernels().widen.get<T>().widen(static_cast<const T*>(args.roi.pooled) + at, bins, wide);
    for (int64_t bin = 0; bin < bins; ++bin) {
      if (chosen[bin] >= 0) plane[chosen[bin] * level.stride_w] += wide[bin];
    }
  }
}

// The same in order of bins.
template <typename T>
void add_rows(const RoiMaxPoolArgs& args, const FeatureLevel& level, int64_t index, int64_t begin, int64_t end,
              accumulator_t<T>* image, accumulator_t<T>* wide) {
  const int64_t bins = args.roi.out_h * args.roi.out_w;
  for (int64_t bin = 0; bin < bins; ++bin) {
    const int64_t at = (index * bins + bin) * args.roi.channels + begin;
    const int32_t* chosen = args.chosen + at;
    if (chosen[0] < 0) continue;  // a bin without cells, whatever the channel
    accumulator_t<T>* first = image + begin * level.stride_c;
    cpu_kernels().widen.get<T>().widen(static_cast<const T*>(args.roi.pooled) + at, end - begin, wide);
    for (int64_t c = 0; c < end - begin; ++c) first[chosen[c] * level.stride_w + c * level.stride_c] += wide[c];
  }
}

// Threads own channels of an image and take RoIs in order: no two touch the same cell, and the sum of a cell does not
// depend on how channels are shared out. Rows are added for all channels at once, as they lie in memory; planes so many
// at a time that they stay in the second-level cache.
template <typename T>
void backward_cells(const RoiMaxPoolArgs& args, ParallelRunner run) {
  using A = accumulator_t<T>;
  const RoiAlignArgs& roi = args.roi;
  const int64_t most = roi.pooled_channels_last ? roi.channels : kPlanes;
  const int64_t blocks = (roi.channels + kPlanes - 1) / kPlanes, tasks = roi.batch * blocks;
  const A* boxes = static_cast<const A*>(roi.rois);
  std::vector<int> levels(roi.num_rois);
  for (int64_t index = 0; index < roi.num_rois; ++index) levels[index] = level_of(roi, boxes + index * 5, index);
  const int64_t nanoseconds = std::max<int64_t>(1, roi.num_rois * roi_nanoseconds(roi) / std::max<int64_t>(1, tasks));
  parallel_for(run, tasks, std::max<int64_t>(1, kMinTaskNanoseconds / nanoseconds), [&](int64_t begin, int64_t end) {
    std::vector<A> wide(std::max(roi.channels, roi.out_h * roi.out_w));
    while (begin < end) {
      const int64_t image = begin / blocks, first = begin % blocks * kPlanes;
      const int64_t last = std::min({roi.channels, first + (end - begin) * kPlanes, first + most});
      for (int64_t index = 0; index < roi.num_rois; ++index) {
        if (static_cast<int64_t>(boxes[index * 5]) != image) continue;
        const FeatureLevel& level = roi.levels[levels[index]];
        A* map = static_cast<A*>(level.data) + image * level.stride_n;
        if (roi.pooled_channels_last) add_rows<T>(args, level, index, first, last, map, wide.data());
        else add_planes<T>(args, level, index, first, last, map, wide.data());
      }
      begin += (last - first + kPlanes - 1) / kPlanes;
    }
  });
}

// Of samples, whose four cells share a gradient.
template <typename T>
void backward(const RoiMaxPoolArgs& args, ParallelRunner run) {
  using A = accumulator_t<T>;
  if (args.mode != RoiMaxMode::kSamples) return backward_cells<T>(args, run);
  const RoiAlignArgs& roi = args.roi;
  const int64_t bins = roi.out_h * roi.out_w;
  const int64_t bin_stride = roi.pooled_channels_last ? roi.channels : 1;
  const int64_t channel_stride = roi.pooled_channels_last ? 1 : bins;
  const int64_t blocks = (roi.channels + kChannelBlock - 1) / kChannelBlock;
  const int64_t tasks = roi.batch * blocks;
  const int64_t nanoseconds = std::max<int64_t>(1, roi.num_rois * roi_nanoseconds(roi) / std::max<int64_t>(1, tasks));
  parallel_for(run, tasks, std::max<int64_t>(1, kMinTaskNanoseconds / nanoseconds), [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t c_begin = task % blocks * kChannelBlock;
      const int64_t c_end = std::min(roi.channels, c_begin + kChannelBlock);
      for (int64_t index = 0; index < roi.num_rois; ++index) {
        const Place<A> place = place_of<A>(args, index);
        if (place.image != task / blocks) continue;
        A* image = static_cast<A*>(place.level->data) + place.image * place.level->stride_n;
        const T* grad = static_cast<const T*>(roi.pooled) + index * roi.channels * bins;
        const int32_t* chosen = args.chosen + index * roi.channels * bins;
        for (int64_t bin = 0; bin < bins; ++bin) {
          const int64_t bin_y = bin / roi.out_w, bin_x = bin % roi.out_w;
          const CellRange ys = samples_of(place.y, bin_y), xs = samples_of(place.x, bin_x);
          const int32_t columns = static_cast<int32_t>(xs.end - xs.begin);
          for (int64_t c = c_begin; c < c_end; ++c) {
            const int64_t at = bin * bin_stride + c * channel_stride;
            if (chosen[at] < 0) continue;
            const SampleTaps<A> taps = sample_taps(sample_at(place.y, bin_y, ys.begin + chosen[at] / columns),
                                                   sample_at(place.x, bin_x, xs.begin + chosen[at] % columns),
                                                   place.level->stride_h, place.level->stride_w);
            A* plane = image + c * place.level->stride_c;
            for (int t = 0; t < taps.count; ++t) plane[taps.offset[t]] += taps.weight[t] * widen(grad[at]);
          }
        }
      }
    }
  });
}

}  // namespace

void roi_max_pool_forward_cpu(const RoiMaxPoolArgs& args, ParallelRunner run) {
  for_dtype(args.roi.dtype, [&](auto zero) { forward<decltype(zero)>(args, run); });
}

void roi_max_pool_backward_cpu(const RoiMaxPoolArgs& args, ParallelRunner run) {
  for_dtype(args.roi.dtype, [&](auto zero) { backward<decltype(zero)>(args, run); });
}

}  // namespace fastdet
