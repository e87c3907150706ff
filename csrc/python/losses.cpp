// fastdet._C: what losses are made of.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "../kernels/box_iou.h"
#include "../kernels/sigmoid_focal_loss.h"
#include "arrays.h"
#include "bindings.h"

namespace fastdet {
namespace {

py::array sigmoid_focal_loss(const py::object& logits, const py::object& labels, const OptionalObject& weight,
                             std::optional<double> alpha, double gamma) {
  check(gamma >= 0.0, "`gamma` must not be negative, got ", gamma);
  const py::array values = py::array::ensure(any_array(logits), py::array::c_style);
  check_shape("logits", values, {-1, -1});
  SigmoidFocalLossArgs args{};
  args.dtype = feature_dtype(values);
  args.logits = values.data();
  args.rows = values.shape(0);
  args.classes = values.shape(1);
  const auto classes = plain_array<int64_t>("labels", labels, {args.rows});
  args.labels = classes.data();
  const bool wide = args.dtype == DType::kFloat64;
  py::array weights;
  if (weight) {
    args.weight_per_class = any_array(*weight).ndim() == 2;
    const auto load = [&](auto zero) -> py::array {
      using A = decltype(zero);
      return args.weight_per_class ? plain_array<A>("weight", *weight, {args.rows, args.classes})
                                   : plain_array<A>("weight", *weight, {args.rows});
    };
    weights = wide ? load(0.0) : load(0.0f);
    args.weight = weights.data();
  }
  args.positive = alpha ? *alpha : 1.0;
  args.negative = alpha ? 1.0 - *alpha : 1.0;
  args.gamma = gamma;
  py::array loss(wide ? py::dtype::of<double>() : py::dtype::of<float>(),
                 std::vector<int64_t>{args.rows, args.classes});
  void* data = loss.mutable_data();
  if (loss.size() > 0) without_lock([&] { sigmoid_focal_loss_cpu(args, data, run_serially); });
  return loss;
}

// One of `names`, as the kernels number them.
Overlap overlap_of(const std::string& kind, bool paired) {
  constexpr const char* kNames[] = {"iou", "giou", "diou", "ciou", "iof"};
  for (int i = 0; i < 5; ++i) {
    const Overlap overlap = static_cast<Overlap>(i);
    const bool of_pairs_alone = overlap == Overlap::kDiou || overlap == Overlap::kCiou;
    if (kind == kNames[i] && (paired ? overlap != Overlap::kIof : !of_pairs_alone)) return overlap;
  }
  check(false, "`kind` must be ", paired ? "'iou', 'giou', 'diou' or 'ciou'" : "'iou', 'giou' or 'iof'", ", got '", kind,
        "'");
  return Overlap::kIou;
}

py::array box_iou(const py::object& first, const py::object& second, const std::string& kind, double eps) {
  const auto rows = plain_array<float>("first", first, {-1, 4});
  const auto columns = plain_array<float>("second", second, {-1, 4});
  py::array_t<float> values({rows.shape(0), columns.shape(0)});
  const BoxIouArgs args{DType::kFloat32,  rows.data(),       columns.data(),          true, 1,
                        rows.shape(0),    columns.shape(0),  overlap_of(kind, false), eps,  values.mutable_data()};
  if (values.size() > 0) without_lock([&] { box_iou_cpu(args, run_serially); });
  return values;
}

py::array paired_box_iou(const py::object& first, const py::object& second, const std::string& kind, double eps) {
  const auto boxes = plain_array<float>("first", first, {-1, 4});
  const auto partners = plain_array<float>("second", second, {boxes.shape(0), 4});
  py::array_t<float> values(boxes.shape(0));
  PairedBoxIouArgs args{};
  args.dtype = DType::kFloat32;
  args.first = boxes.data();
  args.second = partners.data();
  args.count = boxes.shape(0);
  args.kind = overlap_of(kind, true);
  args.eps = eps;
  args.values = values.mutable_data();
  without_lock([&] { paired_box_iou_cpu(args, run_serially); });
  return values;
}

}  // namespace

void bind_losses(py::module_& m) {
  using namespace pybind11::literals;
  m.def("sigmoid_focal_loss", &sigmoid_focal_loss, "logits"_a, "labels"_a, py::kw_only(), "weight"_a = py::none(),
        "alpha"_a = 0.25, "gamma"_a = 2.0);
  m.def("box_iou", &box_iou, "first"_a, "second"_a, py::kw_only(), "kind"_a = "iou", "eps"_a = 1e-6);
  m.def("paired_box_iou", &paired_box_iou, "first"_a, "second"_a, py::kw_only(), "kind"_a = "iou", "eps"_a = 1e-6);
}

}  // namespace fastdet
