// fastdet._C: what makes detections of predictions, beside nms; and what makes images of pictures.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

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

py::tuple soft_nms(const py::object& boxes, const py::object& scores, double iou_threshold, double sigma,
                   double min_score, const std::string& method, const OptionalObject& groups) {
  check_iou_threshold(iou_threshold);
  check(sigma > 0.0, "`sigma` must be positive, got ", sigma);
  const auto all_boxes = plain_array<float>("boxes", boxes, {-1, 4});
  const int64_t size = all_boxes.shape(0);
  const auto all_scores = plain_array<float>("scores", scores, {size});
  std::optional<PlainArray<int64_t>> numbers;
  if (groups) numbers = plain_array<int64_t>("groups", *groups, {size});
  const NmsInput input{all_boxes.data(), all_scores.data(), numbers ? numbers->data() : nullptr, nullptr, 1, size, 0.0f};
  const SoftNmsRule rule{method_of(method), static_cast<float>(iou_threshold), static_cast<float>(sigma),
                         static_cast<float>(min_score)};
  std::vector<int64_t> kept(size);
  std::vector<float> left(size);
  int64_t count = 0;
  without_lock([&] { soft_nms_cpu(input, rule, {size, kept.data(), left.data(), &count}, run_serially); });
  return py::make_tuple(py::array_t<int64_t>(count, kept.data()), py::array_t<float>(count, left.data()));
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
  m.def("fit_images", &fit_images, "pixels"_a, "pictures"_a, "sizes"_a, "shape"_a, py::kw_only(),
        "channels_first"_a = false);
  m.def("paste_masks", &paste_masks, "masks"_a, "boxes"_a, "size"_a, "threshold"_a = 0.5);
}

}  // namespace fastdet
