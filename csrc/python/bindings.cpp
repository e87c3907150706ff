// The module fastdet._C: the kernels on NumPy and DLPack arrays of the CPU, and what was built. No torch header.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <optional>
#include <vector>

#include "../kernels/anchors.h"
#include "../kernels/cpu_kernels.h"
#include "../kernels/crop_masks.h"
#include "../kernels/nms.h"
#include "../kernels/roi_align.h"
#include "arrays.h"
#include "fastdet_build_info.h"

namespace fastdet {
namespace {

using OptionalObject = std::optional<py::object>;

// The kernels run on the calling thread, without the interpreter lock.
template <typename Function>
void without_lock(const Function& function) {
  const py::gil_scoped_release release;
  function();
}

struct NmsArrays {
  PlainArray<float> boxes;
  PlainArray<float> scores;
  std::optional<PlainArray<int64_t>> groups;
  std::optional<PlainArray<bool>> valid;
  NmsInput input;
};

NmsArrays nms_arrays(const py::object& boxes, const py::object& scores, const OptionalObject& groups,
                     const OptionalObject& valid, double iou_threshold, bool batched) {
  check(iou_threshold >= 0.0 && iou_threshold <= 1.0, "`iou_threshold` must lie in [0, 1], got ", iou_threshold);
  NmsArrays arrays;
  arrays.boxes =
      batched ? plain_array<float>("boxes", boxes, {-1, -1, 4}) : plain_array<float>("boxes", boxes, {-1, 4});
  const int64_t batch = batched ? arrays.boxes.shape(0) : 1;
  const int64_t size = arrays.boxes.shape(batched ? 1 : 0);
  const auto like_scores = [&](const char* name, const py::object& object, auto zero) {
    using T = decltype(zero);
    return batched ? plain_array<T>(name, object, {batch, size}) : plain_array<T>(name, object, {size});
  };
  arrays.scores = like_scores("scores", scores, 0.0f);
  if (groups) arrays.groups = like_scores("groups", *groups, int64_t{0});
  if (valid) arrays.valid = like_scores("valid", *valid, false);
  arrays.input = {arrays.boxes.data(),
                  arrays.scores.data(),
                  arrays.groups ? arrays.groups->data() : nullptr,
                  arrays.valid ? arrays.valid->data() : nullptr,
                  batch,
                  size,
                  static_cast<float>(iou_threshold)};
  return arrays;
}

py::array nms_of(const NmsArrays& arrays) {
  std::vector<int64_t> kept(arrays.input.size);
  int64_t count = 0;
  without_lock([&] { nms_cpu(arrays.input, arrays.input.size, kept.data(), &count, run_serially); });
  return py::array_t<int64_t>(count, kept.data());
}

py::array nms(const py::object& boxes, const py::object& scores, double iou_threshold) {
  return nms_of(nms_arrays(boxes, scores, std::nullopt, std::nullopt, iou_threshold, false));
}

py::array batched_nms(const py::object& boxes, const py::object& scores, const py::object& groups,
                      double iou_threshold) {
  return nms_of(nms_arrays(boxes, scores, groups, std::nullopt, iou_threshold, false));
}

py::tuple nms_padded(const py::object& boxes, const py::object& scores, const OptionalObject& groups,
                     double iou_threshold, int64_t max_output, const OptionalObject& valid) {
  check(max_output >= 0, "`max_output` must not be negative, got ", max_output);
  const NmsArrays arrays = nms_arrays(boxes, scores, groups, valid, iou_threshold, true);
  py::array_t<int64_t> index({arrays.input.batch, max_output});
  py::array_t<int64_t> count(arrays.input.batch);
  int64_t* index_data = index.mutable_data();
  int64_t* count_data = count.mutable_data();
  without_lock([&] { nms_cpu(arrays.input, max_output, index_data, count_data, run_serially); });
  return py::make_tuple(index, count);
}

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

py::array roi_align(const std::vector<py::object>& objects, const py::object& rois,
                    std::pair<int64_t, int64_t> output_size, const std::vector<double>& spatial_scales,
                    int64_t sampling_ratio, bool aligned, double finest_scale, const OptionalObject& levels) {
  check(!objects.empty() && objects.size() <= kMaxLevels, "`features` must hold 1 to ", kMaxLevels, " levels, got ",
        objects.size());
  check(spatial_scales.size() == objects.size(), "`spatial_scales` must hold one scale a level");
  check(output_size.first > 0 && output_size.second > 0, "`output_size` must be positive");
  std::vector<py::array> features;
  for (const py::object& object : objects) features.push_back(any_array(object));
  check_shape("features", features[0], {-1, -1, -1, -1});
  RoiAlignArgs args{};
  args.dtype = feature_dtype(features[0]);
  args.num_levels = static_cast<int>(features.size());
  args.batch = features[0].shape(0);
  args.channels = features[0].shape(1);
  for (size_t l = 0; l < features.size(); ++l) {
    check_shape("features", features[l], {args.batch, args.channels, -1, -1});
    check(feature_dtype(features[l]) == args.dtype, "`features` must have one dtype");
    args.levels[l] = feature_level(features[l], spatial_scales[l]);
  }
  py::array coordinates;
  if (args.dtype == DType::kFloat64) coordinates = plain_array<double>("rois", rois, {-1, 5});
  else coordinates = plain_array<float>("rois", rois, {-1, 5});
  args.rois = coordinates.data();
  args.num_rois = coordinates.shape(0);
  PlainArray<int64_t> roi_levels;
  if (levels) {
    roi_levels = plain_array<int64_t>("levels", *levels, {args.num_rois});
    args.roi_levels = roi_levels.data();
  }
  args.out_h = output_size.first;
  args.out_w = output_size.second;
  args.sampling_ratio = sampling_ratio > 0 ? sampling_ratio : 0;
  args.aligned = aligned;
  check(finest_scale > 0.0, "`finest_scale` must be positive, got ", finest_scale);
  args.finest_scale = finest_scale;
  const int64_t bad = roi_align_first_bad_roi(args);
  check(bad < 0, "`rois` row ", bad, " has a batch index or level that the ", args.batch, " images and ",
        args.num_levels, " levels do not have");
  py::array pooled(features[0].dtype(), std::vector<int64_t>{args.num_rois, args.channels, args.out_h, args.out_w});
  args.pooled = pooled.mutable_data();
  if (pooled.size() > 0) without_lock([&] { roi_align_forward_cpu(args, run_serially); });
  return pooled;
}

py::array grid_anchors(const py::object& base_anchors, const std::vector<std::pair<int64_t, int64_t>>& sizes,
                       const std::vector<std::pair<double, double>>& strides) {
  const PlainArray<float> base = plain_array<float>("base_anchors", base_anchors, {-1, -1, 4});
  const size_t num_levels = static_cast<size_t>(base.shape(0));
  check(num_levels <= kMaxAnchorLevels, "`base_anchors` may hold ", kMaxAnchorLevels, " levels, got ", num_levels);
  check(sizes.size() == num_levels && strides.size() == num_levels,
        "`sizes` and `strides` must hold one pair for each of the ", num_levels, " levels");
  GridAnchorsArgs args{};
  args.num_levels = static_cast<int>(num_levels);
  args.num_base = base.shape(1);
  args.base = base.data();
  for (size_t l = 0; l < num_levels; ++l) {
    check(sizes[l].first >= 0 && sizes[l].second >= 0, "`sizes` must not be negative");
    args.levels[l] = {sizes[l].first, sizes[l].second, static_cast<float>(strides[l].first),
                      static_cast<float>(strides[l].second), args.total};
    args.total += sizes[l].first * sizes[l].second * args.num_base;
  }
  py::array_t<float> anchors({args.total, int64_t{4}});
  args.anchors = anchors.mutable_data();
  without_lock([&] { grid_anchors_cpu(args, run_serially); });
  return anchors;
}

py::array crop_masks(const py::object& bits, const py::object& offsets, const py::object& windows,
                     const py::object& mask_index, const py::object& boxes, int64_t output_size,
                     std::pair<int64_t, int64_t> image_size) {
  const auto all_bits = plain_array<uint8_t>("bits", bits, {-1});
  const auto starts = plain_array<int64_t>("offsets", offsets, {-1});
  const auto all_windows = plain_array<int32_t>("windows", windows, {starts.shape(0), 4});
  const auto index = plain_array<int64_t>("mask_index", mask_index, {-1});
  const auto all_boxes = plain_array<float>("boxes", boxes, {index.shape(0), 4});
  check(output_size > 0, "`output_size` must be positive, got ", output_size);
  check(image_size.first > 0 && image_size.second > 0, "`image_size` must be positive");
  CropMasksArgs args{all_bits.data(), all_bits.shape(0), starts.data(),     all_windows.data(),
                     starts.shape(0), index.data(),      all_boxes.data(),  index.shape(0),
                     output_size,     image_size.first,  image_size.second, nullptr};
  const int64_t bad = crop_masks_first_bad_box(args);
  check(bad < 0, "`mask_index` row ", bad, " names a mask that does not exist or lies outside `bits`");
  py::array_t<float> crops({args.num_boxes, output_size, output_size});
  args.crops = crops.mutable_data();
  without_lock([&] { crop_masks_cpu(args, run_serially); });
  return crops;
}

py::dict build_info() {
  py::dict info;
  info["compiler"] = __VERSION__;
  info["torch"] = FASTDET_BUILD_TORCH_VERSION;
  info["cuda"] = FASTDET_BUILD_CUDA_VERSION;
  info["cuda_archs"] = FASTDET_BUILD_CUDA_ARCHS;
  info["python"] = FASTDET_BUILD_PYTHON_VERSION;
  info["cpu_kernels"] = cpu_kernels().name;
  return info;
}

}  // namespace
}  // namespace fastdet

namespace py = pybind11;

PYBIND11_MODULE(_C, m) {
  using namespace pybind11::literals;
  m.doc() = "fastdet's kernels on NumPy and DLPack arrays of the CPU; the ops of fastdet.ops describe them.";
  m.def("nms", &fastdet::nms, "boxes"_a, "scores"_a, "iou_threshold"_a);
  m.def("batched_nms", &fastdet::batched_nms, "boxes"_a, "scores"_a, "groups"_a, "iou_threshold"_a);
  m.def("nms_padded", &fastdet::nms_padded, "boxes"_a, "scores"_a, "groups"_a, "iou_threshold"_a, "max_output"_a,
        "valid"_a = py::none());
  m.def("roi_align", &fastdet::roi_align, "features"_a, "rois"_a, "output_size"_a, "spatial_scales"_a,
        "sampling_ratio"_a = 0, "aligned"_a = true, "finest_scale"_a = 56.0, "levels"_a = py::none());
  m.def("grid_anchors", &fastdet::grid_anchors, "base_anchors"_a, "sizes"_a, "strides"_a);
  m.def("crop_masks", &fastdet::crop_masks, "bits"_a, "offsets"_a, "windows"_a, "mask_index"_a, "boxes"_a,
        "output_size"_a, "image_size"_a);
  m.def("build_info", &fastdet::build_info, "What the native modules were built with, and which CPU kernels run.");
}
