// The module fastdet._C: the kernels on NumPy and DLPack arrays of the CPU, and what was built. No torch header.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <optional>
#include <tuple>
#include <vector>

#include "../kernels/anchors.h"
#include "../kernels/assign_max_iou.h"
#include "../kernels/cpu_kernels.h"
#include "../kernels/crop_masks.h"
#include "../kernels/deform_conv2d.h"
#include "../kernels/ms_deform_attn.h"
#include "../kernels/nms.h"
#include "arrays.h"
#include "bindings.h"
#include "fastdet_build_info.h"

namespace fastdet {
namespace {

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

py::array contiguous(const py::object& object) {
  return py::module_::import("numpy").attr("ascontiguousarray")(object);
}

using Pair = std::pair<int64_t, int64_t>;

int64_t output_side(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation) {
  check(stride > 0 && padding >= 0 && dilation > 0, "`stride` and `dilation` must be positive, `padding` not negative");
  const int64_t room = size + 2 * padding - dilation * (kernel - 1) - 1;
  check(room >= 0, "`input` is smaller than the kernel");
  return room / stride + 1;
}

py::array deform_conv2d(const py::object& input, const py::object& offset, const py::object& weight,
                        const OptionalObject& bias, Pair stride, Pair padding, Pair dilation,
                        const OptionalObject& mask) {
  const py::array features = any_array(input);
  check_shape("input", features, {-1, -1, -1, -1});
  const py::array rows = contiguous(features.attr("transpose")(0, 2, 3, 1));
  const py::array filters = contiguous(any_array(weight));
  check_shape("weight", filters, {-1, -1, -1, -1});
  check(filters.dtype().equal(features.dtype()),
        "`weight` must have the dtype of `input`");
  check(filters.size() > 0 && features.shape(1) > 0 && features.shape(1) % filters.shape(1) == 0,
        "`weight` ", shape_of(filters), " must divide the channels of `input` ", shape_of(features));
  DeformConv2dArgs args{};
  args.dtype = feature_dtype(features);
  args.input = rows.data();
  args.weight = filters.data();
  args.batch = features.shape(0);
  args.channels = features.shape(1);
  args.height = features.shape(2);
  args.width = features.shape(3);
  args.out_channels = filters.shape(0);
  args.kernel_h = filters.shape(2);
  args.kernel_w = filters.shape(3);
  std::tie(args.stride_h, args.stride_w) = stride;
  std::tie(args.padding_h, args.padding_w) = padding;
  std::tie(args.dilation_h, args.dilation_w) = dilation;
  args.groups = args.channels / filters.shape(1);
  check(args.out_channels % args.groups == 0, "the output channels of `weight` must divide into ", args.groups,
        " groups");
  args.out_h = output_side(args.height, args.kernel_h, args.stride_h, args.padding_h, args.dilation_h);
  args.out_w = output_side(args.width, args.kernel_w, args.stride_w, args.padding_w, args.dilation_w);
  const auto coordinates = [&](const char* name, const py::object& object) {
    const std::initializer_list<int64_t> shape = {args.batch, -1, args.out_h, args.out_w};
    if (args.dtype == DType::kFloat64) return py::array(plain_array<double>(name, object, shape));
    return py::array(plain_array<float>(name, object, shape));
  };
  const py::array offsets = coordinates("offset", offset);
  args.offset = offsets.data();
  args.offset_groups = offsets.shape(1) / (2 * args.taps());
  check(args.offset_groups > 0 && offsets.shape(1) == 2 * args.taps() * args.offset_groups &&
            args.channels % args.offset_groups == 0,
        "`offset` must have ", 2 * args.taps(), " channels for each offset group, got ", offsets.shape(1));
  py::array masks, biases;
  if (mask) {
    masks = coordinates("mask", *mask);
    check_shape("mask", masks, {args.batch, args.offset_groups * args.taps(), args.out_h, args.out_w});
    args.mask = masks.data();
  }
  if (bias) {
    biases = contiguous(any_array(*bias).attr("astype")(features.dtype()));
    check_shape("bias", biases, {args.out_channels});
    args.bias = biases.data();
  }
  py::array output(features.dtype(), std::vector<int64_t>{args.batch, args.out_channels, args.out_h, args.out_w});
  void* data = output.mutable_data();
  without_lock([&] { deform_conv2d_forward_cpu(args, data, false, run_serially); });
  return output;
}

py::tuple assign_max_iou(const py::object& boxes, const py::object& objects, const py::object& valid, double positive,
                         std::pair<double, double> negative, double min_positive, bool match_low_quality,
                         bool all_ties, const OptionalObject& candidates, const OptionalObject& blocked) {
  const auto targets = plain_array<float>("objects", objects, {-1, -1, 4});
  AssignMaxIouArgs args{};
  args.batch = targets.shape(0);
  args.num_objects = targets.shape(1);
  args.shared_boxes = any_array(boxes).ndim() == 2;
  const auto all_boxes = args.shared_boxes ? plain_array<float>("boxes", boxes, {-1, 4})
                                           : plain_array<float>("boxes", boxes, {args.batch, -1, 4});
  args.num_boxes = all_boxes.shape(args.shared_boxes ? 0 : 1);
  const auto slots = plain_array<bool>("valid", valid, {args.batch, args.num_objects});
  std::optional<PlainArray<bool>> chosen, out;
  if (candidates) chosen = plain_array<bool>("candidates", *candidates, {args.batch, args.num_boxes});
  if (blocked) out = plain_array<bool>("blocked", *blocked, {args.batch, args.num_boxes});
  args.boxes = all_boxes.data();
  args.objects = targets.data();
  args.valid = slots.data();
  args.candidates = chosen ? chosen->data() : nullptr;
  args.blocked = out ? out->data() : nullptr;
  args.positive = static_cast<float>(positive);
  args.negative_low = static_cast<float>(negative.first);
  args.negative_high = static_cast<float>(negative.second);
  args.min_positive = static_cast<float>(min_positive);
  args.match_low_quality = match_low_quality;
  args.all_ties = all_ties;
  py::array_t<int64_t> index({args.batch, args.num_boxes});
  py::array_t<float> iou({args.batch, args.num_boxes});
  args.index = index.mutable_data();
  args.iou = iou.mutable_data();
  without_lock([&] { assign_max_iou_cpu(args, run_serially); });
  return py::make_tuple(index, iou);
}

py::array ms_deform_attn(const py::object& value, const std::vector<std::pair<int64_t, int64_t>>& spatial_shapes,
                         const py::object& sampling_locations, const py::object& attention_weights) {
  const py::array values = contiguous(any_array(value));
  check_shape("value", values, {-1, -1, -1, -1});
  MsDeformAttnArgs args{};
  args.dtype = feature_dtype(values);
  args.value = values.data();
  args.batch = values.shape(0);
  args.cells = values.shape(1);
  args.heads = values.shape(2);
  args.channels = values.shape(3);
  args.num_levels = static_cast<int64_t>(spatial_shapes.size());
  check(args.num_levels >= 1 && args.num_levels <= kMaxAttentionLevels, "`spatial_shapes` must hold 1 to ",
        kMaxAttentionLevels, " levels, got ", args.num_levels);
  int64_t start = 0;
  for (int64_t level = 0; level < args.num_levels; ++level) {
    const auto [height, width] = spatial_shapes[level];
    check(height > 0 && width > 0 && height < 1 << 24 && width < 1 << 24,
          "`spatial_shapes` must lie in [1, 2^24), got ", height, " x ", width);
    args.levels[level] = {height, width, start};
    start += height * width;
  }
  check(start == args.cells && start < int64_t{1} << 31, "`value` must have the ", start,
        " cells of `spatial_shapes`, got ", args.cells);
  const auto coordinates = [&](const char* name, const py::object& object, std::initializer_list<int64_t> shape) {
    if (args.dtype == DType::kFloat64) return py::array(plain_array<double>(name, object, shape));
    return py::array(plain_array<float>(name, object, shape));
  };
  const py::array locations =
      coordinates("sampling_locations", sampling_locations, {args.batch, -1, args.heads, args.num_levels, -1, 2});
  args.queries = locations.shape(1);
  args.points = locations.shape(4);
  const py::array weights = coordinates("attention_weights", attention_weights,
                                        {args.batch, args.queries, args.heads, args.num_levels, args.points});
  args.locations = locations.data();
  args.weights = weights.data();
  py::array output(values.dtype(), std::vector<int64_t>{args.batch, args.queries, args.heads * args.channels});
  void* data = output.mutable_data();
  without_lock([&] { ms_deform_attn_forward_cpu(args, data, run_serially); });
  return output;
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
  m.def("grid_anchors", &fastdet::grid_anchors, "base_anchors"_a, "sizes"_a, "strides"_a);
  m.def("crop_masks", &fastdet::crop_masks, "bits"_a, "offsets"_a, "windows"_a, "mask_index"_a, "boxes"_a,
        "output_size"_a, "image_size"_a);
  m.def("deform_conv2d", &fastdet::deform_conv2d, "input"_a, "offset"_a, "weight"_a, "bias"_a = py::none(),
        "stride"_a = std::pair(1, 1), "padding"_a = std::pair(0, 0), "dilation"_a = std::pair(1, 1),
        "mask"_a = py::none());
  m.def("assign_max_iou", &fastdet::assign_max_iou, "boxes"_a, "objects"_a, "valid"_a, py::kw_only(), "positive"_a,
        "negative"_a, "min_positive"_a = 0.0, "match_low_quality"_a = true, "all_ties"_a = true,
        "candidates"_a = py::none(), "blocked"_a = py::none());
  m.def("ms_deform_attn", &fastdet::ms_deform_attn, "value"_a, "spatial_shapes"_a, "sampling_locations"_a,
        "attention_weights"_a);
  fastdet::bind_dense(m);
  fastdet::bind_losses(m);
  fastdet::bind_pooling(m);
  fastdet::bind_postprocess(m);
  m.def("build_info", &fastdet::build_info, "What the native modules were built with, and which CPU kernels run.");
}
