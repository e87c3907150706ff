// fastdet._C: what makes detections of predictions, beside nms; and what makes images of pictures.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "../kernels/fit_images.h"
#include "../kernels/paste_masks.h"
#include "../kernels/soft_nms.h"
#include "arrays.h"
#include "bindings.h"

namespace fastdet {
namespace {

SoftNmsMethod method_of(const std::string& method) {
  if (method == "naive") return SoftNmsMethod::kNaive;
  if (method == "linear") return SoftNmsMethod::kLinear;
  check(method == "gaussian", "`method` must be 'naive', 'linear' or 'gaussian', got '", method, "'");
  return SoftNmsMethod::kGaussian;
}

void check_iou_threshold(double iou_threshold) {
  check(iou_threshold >= 0.0 && iou_threshold <= 1.0, "`iou_threshold` must lie in [0, 1], got ", iou_threshold);
}

SoftNmsRule rule_of(const std::string& method, double iou_threshold, double sigma, double min_score) {
  check_iou_threshold(iou_threshold);
  check(sigma > 0.0, "`sigma` must be positive, got ", sigma);
  return {method_of(method), static_cast<float>(iou_threshold), static_cast<float>(sigma),
          static_cast<float>(min_score)};
}

py::tuple soft_nms(const py::object& boxes, const py::object& scores, double iou_threshold, double sigma,
                   double min_score, const std::string& method, const OptionalObject& groups) {
  const auto all_boxes = plain_array<float>("boxes", boxes, {-1, 4});
  const int64_t size = all_boxes.shape(0);
  const auto all_scores = plain_array<float>("scores", scores, {size});
  std::optional<PlainArray<int64_t>> numbers;
  if (groups) numbers = plain_array<int64_t>("groups", *groups, {size});
  const NmsInput input{all_boxes.data(), all_scores.data(), numbers ? numbers->data() : nullptr, nullptr, 1, size, 0.0f};
  const SoftNmsRule rule = rule_of(method, iou_threshold, sigma, min_score);
  std::vector<int64_t> kept(size);
  std::vector<float> left(size);
  int64_t count = 0;
  without_lock([&] { soft_nms_cpu(input, rule, {size, kept.data(), left.data(), &count}, run_serially); });
  return py::make_tuple(py::array_t<int64_t>(count, kept.data()), py::array_t<float>(count, left.data()));
}

py::tuple soft_nms_padded(const py::object& boxes, const py::object& scores, const OptionalObject& groups,
                          double iou_threshold, int64_t max_output, const OptionalObject& valid, double sigma,
                          double min_score, const std::string& method) {
  check(max_output >= 0, "`max_output` must not be negative, got ", max_output);
  const auto all_boxes = plain_array<float>("boxes", boxes, {-1, -1, 4});
  const int64_t batch = all_boxes.shape(0), size = all_boxes.shape(1);
  const auto all_scores = plain_array<float>("scores", scores, {batch, size});
  std::optional<PlainArray<int64_t>> numbers;
  std::optional<PlainArray<bool>> slots;
  if (groups) numbers = plain_array<int64_t>("groups", *groups, {batch, size});
  if (valid) slots = plain_array<bool>("valid", *valid, {batch, size});
  const NmsInput input{all_boxes.data(), all_scores.data(), numbers ? numbers->data() : nullptr,
                       slots ? slots->data() : nullptr, batch, size, 0.0f};
  const SoftNmsRule rule = rule_of(method, iou_threshold, sigma, min_score);
  py::array_t<int64_t> index({batch, max_output});
  py::array_t<float> left({batch, max_output});
  py::array_t<int64_t> count(batch);
  const SoftNmsOutput output{max_output, index.mutable_data(), left.mutable_data(), count.mutable_data()};
  without_lock([&] { soft_nms_cpu(input, rule, output, run_serially); });
  return py::make_tuple(index, left, count);
}

py::array nms_match(const py::object& boxes, const py::object& scores, double iou_threshold) {
  check_iou_threshold(iou_threshold);
  const auto all_boxes = plain_array<float>("boxes", boxes, {-1, 4});
  const int64_t size = all_boxes.shape(0);
  const auto all_scores = plain_array<float>("scores", scores, {size});
  const float* score = all_scores.data();
  std::vector<int64_t> order(size), places(size);
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return score_key(score[a]) < score_key(score[b]); });
  std::vector<float> sorted(4 * size);
  for (int64_t i = 0; i < size; ++i) std::copy_n(all_boxes.data() + 4 * order[i], 4, sorted.data() + 4 * i);
  without_lock([&] { nms_match_cpu(sorted.data(), size, static_cast<float>(iou_threshold), places.data()); });
  py::array_t<int64_t> owners(size);
  int64_t* out = owners.mutable_data();
  for (int64_t i = 0; i < size; ++i) out[order[i]] = order[places[i]];
  return owners;
}

py::array paste_masks(const py::object& masks, const py::object& boxes, std::pair<int64_t, int64_t> size,
                      double threshold) {
  const auto all_masks = plain_array<float>("masks", masks, {-1, -1, -1});
  const auto all_boxes = plain_array<float>("boxes", boxes, {all_masks.shape(0), 4});
  check(size.first >= 0 && size.second >= 0, "`size` must not be negative");
  check(all_masks.shape(1) > 0 && all_masks.shape(2) > 0, "`masks` must have cells, got ", shape_of(all_masks));
  py::array_t<bool> pasted({static_cast<int64_t>(all_masks.shape(0)), size.first, size.second});
  const PasteMasksArgs args{all_masks.data(),   all_boxes.data(), all_masks.shape(0),
                            all_masks.shape(1), all_masks.shape(2), size.first,
                            size.second,        static_cast<float>(threshold),
                            reinterpret_cast<uint8_t*>(pasted.mutable_data())};
  if (pasted.size() > 0) without_lock([&] { paste_masks_cpu(args, run_serially); });
  return pasted;
}

py::array fit_images(const py::object& pixels, const py::object& pictures, const py::object& sizes,
                     std::pair<int64_t, int64_t> shape, bool channels_first) {
  const auto [height, width] = shape;
  const auto bytes = plain_array<uint8_t>("pixels", pixels, {-1});
  const auto places = plain_array<int64_t>("pictures", pictures, {-1, 3});
  const int64_t count = places.shape(0);
  const auto wanted = plain_array<int64_t>("sizes", sizes, {count, 2});
  check(height >= 1 && width >= 1, "`shape` must be at least (1, 1), got (", height, ", ", width, ")");
  py::array_t<uint8_t> images(channels_first ? std::vector<int64_t>{count, kPictureChannels, height, width}
                                             : std::vector<int64_t>{count, height, width, kPictureChannels});
  const FitImagesArgs args{bytes.data(),
                           static_cast<int64_t>(bytes.size()),
                           places.data(),
                           wanted.data(),
                           count,
                           height,
                           width,
                           channels_first ? width : width * kPictureChannels,
                           channels_first ? 1 : kPictureChannels,
                           channels_first ? height * width : 1,
                           images.mutable_data()};
  for (int64_t i = 0; i < count; ++i) {
    check(fit_is_within(args, args.pictures + i * 3, args.sizes + i * 2), "picture ", i,
          " does not lie within the bytes, or its new size is not within `shape`");
  }
  without_lock([&] { fit_images_cpu(args, run_serially); });
  return images;
}

}  // namespace

void bind_postprocess(py::module_& m) {
  using namespace pybind11::literals;
  m.def("soft_nms", &soft_nms, "boxes"_a, "scores"_a, "iou_threshold"_a = 0.3, py::kw_only(), "sigma"_a = 0.5,
        "min_score"_a = 1e-3, "method"_a = "linear", "groups"_a = py::none());
  m.def("soft_nms_padded", &soft_nms_padded, "boxes"_a, "scores"_a, "groups"_a, "iou_threshold"_a, "max_output"_a,
        "valid"_a = py::none(), py::kw_only(), "sigma"_a = 0.5, "min_score"_a = 1e-3, "method"_a = "linear");
  m.def("nms_match", &nms_match, "boxes"_a, "scores"_a, "iou_threshold"_a);
  m.def("fit_images", &fit_images, "pixels"_a, "pictures"_a, "sizes"_a, "shape"_a, py::kw_only(),
        "channels_first"_a = false);
  m.def("paste_masks", &paste_masks, "masks"_a, "boxes"_a, "size"_a, "threshold"_a = 0.5);
}

}  // namespace fastdet
