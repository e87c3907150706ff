// fastdet._C: detections and proposals from what a dense head says.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "../kernels/dense_postprocess.h"
#include "arrays.h"
#include "bindings.h"

namespace fastdet {
namespace {

using Pairs = std::vector<std::pair<double, double>>;
using Sizes = std::vector<std::pair<int64_t, int64_t>>;

// The position of a name in a list.
int64_t number_of(const char* argument, const std::string& name, const std::vector<std::string>& names) {
  const auto found = std::find(names.begin(), names.end(), name);
  std::ostringstream known;
  for (size_t i = 0; i < names.size(); ++i) known << (i > 0 ? ", '" : "'") << names[i] << "'";
  check(found != names.end(), "`", argument, "` must be one of ", known.str(), ", got '", name, "'");
  return found - names.begin();
}

struct Said {
  py::array values;
  DType dtype;
};

// Numbers that a head says, contiguous.
Said said(const char* name, const py::object& object, std::initializer_list<int64_t> shape) {
  const py::array values = py::array::ensure(any_array(object), py::array::c_style);
  check_shape(name, values, shape);
  const DType dtype = feature_dtype(values);
  check(dtype != DType::kFloat64, "`", name, "` must be float32 or float16, got float64");
  return {values, dtype};
}

void set_levels(DensePostprocessArgs& args, const Sizes& level_sizes, const std::vector<int64_t>& cell_priors) {
  check(level_sizes.size() == cell_priors.size() && level_sizes.size() <= kMaxAnchorLevels,
        "`level_sizes` and `cell_priors` must hold one entry for each of at most ", kMaxAnchorLevels, " levels");
  args.num_levels = static_cast<int>(level_sizes.size());
  int64_t first = 0;
  for (size_t l = 0; l < level_sizes.size(); ++l) {
    const auto [height, width] = level_sizes[l];
    check(height >= 0 && width >= 0 && cell_priors[l] >= 0, "`level_sizes` and `cell_priors` must not be negative");
    args.levels[l] = {height, width, 0.0f, 0.0f, first};
    args.lengths[l] = height * width * cell_priors[l];
    check(args.lengths[l] * args.num_classes < int64_t{1} << 32, "a level may hold 2^32 pairs of prior and class");
    first += args.lengths[l];
  }
  check(first == args.num_priors, "the levels hold ", first, " priors, but `logits` has ", args.num_priors);
}

PlainArray<float> set_priors(DensePostprocessArgs& args, const py::object& priors,
                             const std::vector<int64_t>& cell_priors, const Pairs& strides) {
  if (strides.empty()) {
    const bool shared = any_array(priors).ndim() == 2;
    args.prior_stride = shared ? 0 : args.num_priors * 4;
    return shared ? plain_array<float>("priors", priors, {args.num_priors, 4})
                  : plain_array<float>("priors", priors, {args.batch, args.num_priors, 4});
  }
  PlainArray<float> base = plain_array<float>("priors", priors, {args.num_levels, -1, 4});
  check(static_cast<int>(strides.size()) == args.num_levels, "`strides` must hold (x, y) of each of the ",
        args.num_levels, " levels");
  args.base_per_cell = base.shape(1);
  for (int l = 0; l < args.num_levels; ++l) {
    check(cell_priors[l] == args.base_per_cell, "`cell_priors` must equal the ", args.base_per_cell,
          " base anchors of `priors`");
    args.levels[l].stride_x = static_cast<float>(strides[l].first);
    args.levels[l].stride_y = static_cast<float>(strides[l].second);
  }
  return base;
}

py::tuple dense_postprocess(const py::object& logits, const py::object& codes, const py::object& priors,
                            const py::object& image_sizes, const Sizes& level_sizes,
                            const std::vector<int64_t>& cell_priors, const Pairs& strides, const std::string& code,
                            const std::vector<double>& code_numbers, bool clips, double iou_threshold,
                            int64_t max_output, int64_t limit, double score_threshold, double min_size,
                            const OptionalObject& quality, const std::string& rivals, bool best_class) {
  check(iou_threshold >= 0.0 && iou_threshold <= 1.0, "`iou_threshold` must lie in [0, 1], got ", iou_threshold);
  check(max_output >= 0, "`max_output` must not be negative, got ", max_output);
  DensePostprocessArgs args{};
  const Said scores_said = said("logits", logits, {-1, -1, -1});
  args.batch = scores_said.values.shape(0);
  args.num_priors = scores_said.values.shape(1);
  args.num_classes = scores_said.values.shape(2);
  args.logits = scores_said.values.data();
  args.logits_dtype = scores_said.dtype;
  const Said codes_said = said("codes", codes, {args.batch, args.num_priors, -1});
  args.codes = codes_said.values.data();
  args.codes_dtype = codes_said.dtype;
  std::optional<Said> quality_said;
  if (quality) {
    quality_said = said("quality", *quality, {args.batch, args.num_priors});
    args.quality = quality_said->values.data();
    args.quality_dtype = quality_said->dtype;
  }
  const auto sizes = plain_array<float>("image_sizes", image_sizes, {args.batch, 2});
  args.image_sizes = sizes.data();

  const int64_t kind = number_of("code", code, {"delta", "distance", "distribution", "cell"});
  check(static_cast<int64_t>(code_numbers.size()) == kCodeNumbers[kind], "`code_numbers` must hold ",
        kCodeNumbers[kind], " numbers for code '", code, "', got ", code_numbers.size());
  const int64_t numbers = codes_said.values.shape(2);
  const bool distribution = static_cast<BoxCode>(kind) == BoxCode::kDistribution;
  check(distribution ? numbers >= 4 && numbers % 4 == 0 : numbers == 4, "`codes` must hold ",
        distribution ? "a multiple of 4" : "4", " numbers a prior, got ", numbers);
  args.code = box_code_of(static_cast<BoxCode>(kind), code_numbers.data(), numbers, clips);

  set_levels(args, level_sizes, cell_priors);
  const PlainArray<float> all_priors = set_priors(args, priors, cell_priors, strides);
  args.priors = all_priors.data();
  args.limit = limit;
  args.score_threshold = static_cast<float>(score_threshold);
  args.best_class = best_class;
  args.min_size = static_cast<float>(min_size);
  args.rivals = static_cast<Rivals>(number_of("rivals", rivals, {"class", "level", "all"}));
  args.iou_threshold = static_cast<float>(iou_threshold);
  args.max_output = max_output;

  py::array_t<float> boxes({args.batch, max_output, int64_t{4}});
  py::array_t<float> scores({args.batch, max_output});
  py::array_t<int64_t> labels({args.batch, max_output});
  py::array_t<int64_t> counts(args.batch);
  args.boxes = boxes.mutable_data();
  args.scores = scores.mutable_data();
  args.labels = labels.mutable_data();
  args.counts = counts.mutable_data();
  without_lock([&] { dense_postprocess_cpu(args, run_serially); });
  return py::make_tuple(boxes, scores, labels, counts);
}

const std::vector<double> kPlainDeltas = {0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 4.135166556742356, -1.0};

py::tuple rpn_proposals(const py::object& logits, const py::object& deltas, const py::object& base_anchors,
                        const py::object& image_sizes, const Sizes& level_sizes, const Pairs& strides,
                        double iou_threshold, int64_t max_output, int64_t limit, double min_size,
                        const std::vector<double>& code_numbers, bool clips) {
  const py::array objectness = any_array(logits);
  check_shape("logits", objectness, {-1, -1});
  const py::array base = any_array(base_anchors);
  check_shape("base_anchors", base, {static_cast<int64_t>(level_sizes.size()), -1, 4});
  const py::object pairs = objectness.attr("reshape")(objectness.shape(0), objectness.shape(1), 1);
  const py::tuple found = dense_postprocess(
      pairs, deltas, base, image_sizes, level_sizes, std::vector<int64_t>(level_sizes.size(), base.shape(1)), strides,
      "delta", code_numbers, clips, iou_threshold, max_output, limit, -1.0, min_size, std::nullopt, "level", false);
  return py::make_tuple(found[0], found[1], found[3]);
}

}  // namespace

void bind_dense(py::module_& m) {
  using namespace pybind11::literals;
  m.def("dense_postprocess", &dense_postprocess, "logits"_a, "codes"_a, "priors"_a, "image_sizes"_a, "level_sizes"_a,
        "cell_priors"_a, "strides"_a = Pairs(), py::kw_only(), "code"_a = "delta", "code_numbers"_a = kPlainDeltas,
        "clips"_a = true, "iou_threshold"_a, "max_output"_a, "limit"_a = -1, "score_threshold"_a = -1.0,
        "min_size"_a = -1.0, "quality"_a = py::none(), "rivals"_a = "class", "best_class"_a = false);
  m.def("rpn_proposals", &rpn_proposals, "logits"_a, "deltas"_a, "base_anchors"_a, "image_sizes"_a, "level_sizes"_a,
        "strides"_a, py::kw_only(), "iou_threshold"_a, "max_output"_a, "limit"_a = -1, "min_size"_a = -1.0,
        "code_numbers"_a = kPlainDeltas, "clips"_a = true);
}

}  // namespace fastdet
