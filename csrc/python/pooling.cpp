// fastdet._C: pooling of regions from feature pyramids.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "../kernels/roi_align.h"
#include "../kernels/roi_max_pool.h"
#include "arrays.h"
#include "bindings.h"

namespace fastdet {
namespace {

FeatureLevel feature_level(const py::array& feature, double scale) {
  const auto stride = [&](int d) { return static_cast<int64_t>(feature.strides(d) / feature.itemsize()); };
  check(feature.shape(2) > 0 && feature.shape(3) > 0, "`features` must have cells, got ", shape_of(feature));
  return {const_cast<void*>(feature.data()),
          feature.shape(2),
          feature.shape(3),
          stride(0),
          stride(1),
          stride(2),
          stride(3),
          scale};
}

// The arguments of a pooling and its result, and the arrays that they point into.
class Pooling {
 public:
  Pooling(const std::vector<py::object>& objects, const py::object& rois, std::pair<int64_t, int64_t> output_size,
          const std::vector<double>& spatial_scales, double finest_scale, const OptionalObject& levels) {
    check(!objects.empty() && objects.size() <= kMaxLevels, "`features` must hold 1 to ", kMaxLevels, " levels, got ",
          objects.size());
    check(spatial_scales.size() == objects.size(), "`spatial_scales` must hold one scale a level");
    check(output_size.first > 0 && output_size.second > 0, "`output_size` must be positive");
    for (const py::object& object : objects) features_.push_back(any_array(object));
    check_shape("features", features_[0], {-1, -1, -1, -1});
    args.dtype = feature_dtype(features_[0]);
    args.num_levels = static_cast<int>(features_.size());
    args.batch = features_[0].shape(0);
    args.channels = features_[0].shape(1);
    for (size_t l = 0; l < features_.size(); ++l) {
      check_shape("features", features_[l], {args.batch, args.channels, -1, -1});
      check(feature_dtype(features_[l]) == args.dtype, "`features` must have one dtype");
      args.levels[l] = feature_level(features_[l], spatial_scales[l]);
    }
    if (args.dtype == DType::kFloat64) rois_ = plain_array<double>("rois", rois, {-1, 5});
    else rois_ = plain_array<float>("rois", rois, {-1, 5});
    args.rois = rois_.data();
    args.num_rois = rois_.shape(0);
    if (levels) {
      roi_levels_ = plain_array<int64_t>("levels", *levels, {args.num_rois});
      args.roi_levels = roi_levels_.data();
    }
    std::tie(args.out_h, args.out_w) = output_size;
    check(finest_scale > 0.0, "`finest_scale` must be positive, got ", finest_scale);
    args.finest_scale = finest_scale;
    const int64_t bad = roi_align_first_bad_roi(args);
    check(bad < 0, "`rois` row ", bad, " has a batch index or level that the ", args.batch, " images and ",
          args.num_levels, " levels do not have");
    pooled = py::array(features_[0].dtype(), std::vector<int64_t>{args.num_rois, args.channels, args.out_h, args.out_w});
    args.pooled = pooled.mutable_data();
  }

  // Of cells or of samples.
  py::array maximum(RoiMaxMode mode) {
    for (const py::array& feature : features_) {
      check(feature.shape(2) * feature.shape(3) < int64_t{1} << 31, "`features` may have less than 2^31 cells a map");
    }
    std::vector<int32_t> chosen(pooled.size());
    const RoiMaxPoolArgs all{args, mode, chosen.data()};
    if (pooled.size() > 0) without_lock([&] { roi_max_pool_forward_cpu(all, run_serially); });
    return pooled;
  }

  py::array average() {
    if (pooled.size() > 0) without_lock([&] { roi_align_forward_cpu(args, run_serially); });
    return pooled;
  }

  RoiAlignArgs args{};
  py::array pooled;

 private:
  std::vector<py::array> features_;
  py::array rois_;
  PlainArray<int64_t> roi_levels_;
};

py::array roi_align(const std::vector<py::object>& features, const py::object& rois,
                    std::pair<int64_t, int64_t> output_size, const std::vector<double>& spatial_scales,
                    int64_t sampling_ratio, bool aligned, double finest_scale, const OptionalObject& levels,
                    const std::string& pool_mode) {
  check(pool_mode == "avg" || pool_mode == "max", "`pool_mode` must be 'avg' or 'max', got '", pool_mode, "'");
  Pooling pooling(features, rois, output_size, spatial_scales, finest_scale, levels);
  pooling.args.sampling_ratio = sampling_ratio > 0 ? sampling_ratio : 0;
  pooling.args.aligned = aligned;
  return pool_mode == "avg" ? pooling.average() : pooling.maximum(RoiMaxMode::kSamples);
}

py::array roi_pool(const std::vector<py::object>& features, const py::object& rois,
                   std::pair<int64_t, int64_t> output_size, const std::vector<double>& spatial_scales, bool rounded,
                   double finest_scale, const OptionalObject& levels) {
  return Pooling(features, rois, output_size, spatial_scales, finest_scale, levels)
      .maximum(rounded ? RoiMaxMode::kRounded : RoiMaxMode::kExact);
}

}  // namespace

void bind_pooling(py::module_& m) {
  using namespace pybind11::literals;
  m.def("roi_align", &roi_align, "features"_a, "rois"_a, "output_size"_a, "spatial_scales"_a, "sampling_ratio"_a = 0,
        "aligned"_a = true, "finest_scale"_a = 56.0, "levels"_a = py::none(), "pool_mode"_a = "avg");
  m.def("roi_pool", &roi_pool, "features"_a, "rois"_a, "output_size"_a, "spatial_scales"_a, py::kw_only(),
        "rounded"_a = true, "finest_scale"_a = 56.0, "levels"_a = py::none());
}

}  // namespace fastdet
