// Maximum pooling of RoIs on the CPU: channels innermost where they lie so, else one plane after the other.
#include "roi_max_pool.h"

#include <algorithm>
#include <vector>

#include "cpu_kernels.h"

namespace fastdet {
namespace {

constexpr int64_t kChannelBlock = 64;

template <typename A>
struct Place {
  RoiMaxAxis<A> y;
  RoiMaxAxis<A> x;
  const FeatureLevel* level;
  int64_t image;
};

template <typename A>
Place<A> place_of(const RoiMaxPoolArgs& args, int64_t index) {
  const RoiAlignArgs& roi = args.roi;
  const A* box = static_cast<const A*>(roi.rois) + index * 5;
  const int level = roi.roi_levels != nullptr
                        ? static_cast<int>(roi.roi_levels[index])
                        : pyramid_level(box[1], box[2], box[3], box[4], static_cast<A>(roi.finest_scale), roi.num_levels);
  const FeatureLevel* map = &roi.levels[level];
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

// The largest of the cells of a plane, and its number.
template <typename T>
struct Largest {
  accumulator_t<T> value;
  int32_t number;
};

template <typename T>
Largest<T> largest_cell(const T* plane, const FeatureLevel& level, CellRange ys, CellRange xs) {
  using A = accumulator_t<T>;
  if (ys.begin >= ys.end || xs.begin >= xs.end) return {A(0), -1};
  Largest<T> best{widen(plane[ys.begin * level.stride_h + xs.begin * level.stride_w]), 0};
  int32_t number = 0;
  for (int64_t y = ys.begin; y < ys.end; ++y) {
    const T* row = plane + y * level.stride_h;
    for (int64_t x = xs.begin; x < xs.end; ++x, ++number) {
      const A value = widen(row[x * level.stride_w]);
      best = value > best.value ? Largest<T>{value, number} : best;
    }
  }
  return best;
}

// Cells of planes that lie one after the other: bins are placed once, and each plane is read in its order.
template <typename T>
void forward_planes(const RoiMaxPoolArgs& args, int64_t index, const Place<accumulator_t<T>>& place) {
  const RoiAlignArgs& roi = args.roi;
  const FeatureLevel& level = *place.level;
  const T* image = static_cast<const T*>(level.data) + place.image * level.stride_n;
  const int64_t bins = roi.out_h * roi.out_w;
  const int64_t bin_stride = roi.pooled_channels_last ? roi.channels : 1;
  const int64_t channel_stride = roi.pooled_channels_last ? 1 : bins;
  std::vector<CellRange> ys, xs;
  for (int64_t bin = 0; bin < roi.out_h; ++bin) ys.push_back(samples_of(place.y, bin));
  for (int64_t bin = 0; bin < roi.out_w; ++bin) xs.push_back(samples_of(place.x, bin));
  for (int64_t c = 0; c < roi.channels; ++c) {
    int64_t to = index * roi.channels * bins + c * channel_stride;
    for (int64_t bin = 0; bin < bins; ++bin, to += bin_stride) {
      const Largest<T> best =
          largest_cell(image + c * level.stride_c, level, ys[bin / roi.out_w], xs[bin % roi.out_w]);
      static_cast<T*>(roi.pooled)[to] = narrow<T>(best.value);
      args.chosen[to] = best.number;
    }
  }
}

template <typename T>
void forward_roi(const RoiMaxPoolArgs& args, int64_t index, std::vector<accumulator_t<T>>& best,
                 std::vector<int32_t>& chosen) {
  using A = accumulator_t<T>;
  const RoiAlignArgs& roi = args.roi;
  const Place<A> place = place_of<A>(args, index);
  const FeatureLevel& level = *place.level;
  if (args.mode != RoiMaxMode::kSamples && level.stride_c != 1) return forward_planes<T>(args, index, place);
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
    std::vector<accumulator_t<T>> best(args.roi.channels);
    std::vector<int32_t> chosen(args.roi.channels);
    for (int64_t index = begin; index < end; ++index) forward_roi<T>(args, index, best, chosen);
  });
}

// A task owns one image and one block of channels, and takes RoIs in order: no two threads touch the same cell.
template <typename T>
void backward(const RoiMaxPoolArgs& args, ParallelRunner run) {
  using A = accumulator_t<T>;
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
            if (args.mode != RoiMaxMode::kSamples) {  // one cell of weight 1
              const int64_t y = ys.begin + chosen[at] / columns, x = xs.begin + chosen[at] % columns;
              image[y * place.level->stride_h + x * place.level->stride_w + c * place.level->stride_c] += widen(grad[at]);
              continue;
            }
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
  switch (args.roi.dtype) {
    case DType::kFloat32:
      return forward<float>(args, run);
    case DType::kFloat16:
      return forward<Half>(args, run);
    case DType::kBFloat16:
      return forward<BFloat16>(args, run);
    case DType::kFloat64:
      return forward<double>(args, run);
  }
}

void roi_max_pool_backward_cpu(const RoiMaxPoolArgs& args, ParallelRunner run) {
  switch (args.roi.dtype) {
    case DType::kFloat32:
      return backward<float>(args, run);
    case DType::kFloat16:
      return backward<Half>(args, run);
    case DType::kBFloat16:
      return backward<BFloat16>(args, run);
    case DType::kFloat64:
      return backward<double>(args, run);
  }
}

}  // namespace fastdet
