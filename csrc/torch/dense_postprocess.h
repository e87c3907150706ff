// Arguments of dense_postprocess, checked once for both devices.
#pragma once

#include "../kernels/dense_postprocess.h"
#include "features.h"

namespace fastdet {

inline BoxCodeArgs box_code_args(int64_t code, const std::vector<double>& numbers, int64_t said, bool clips) {
  check(code >= 0 && code < 4, "`code` must be 0 to 3, got ", code);
  check(static_cast<int64_t>(numbers.size()) == kCodeNumbers[code], "`code_numbers` must hold ", kCodeNumbers[code],
        " numbers for code ", code, ", got ", numbers.size());
  const bool distribution = static_cast<BoxCode>(code) == BoxCode::kDistribution;
  check(distribution ? said >= 4 && said % 4 == 0 : said == 4, "`codes` must hold ",
        distribution ? "a multiple of 4" : "4", " numbers a prior, got ", said);
  return box_code_of(static_cast<BoxCode>(code), numbers.data(), said, clips);
}

// The contiguous arguments and the results live here.
class DensePostprocessArguments {
 public:
  DensePostprocessArguments(const Tensor& logits, const Tensor& codes, const std::optional<Tensor>& quality,
                            const Tensor& priors, const Tensor& image_sizes, const std::vector<int64_t>& level_sizes,
                            const std::vector<int64_t>& cell_priors, const std::vector<double>& strides, int64_t code,
                            const std::vector<double>& code_numbers, bool clips, int64_t limit, double score_threshold,
                            double min_size, int64_t rivals, double iou_threshold, int64_t max_output, bool best_class)
      : logits_(torch::stable::contiguous(logits)),
        codes_(torch::stable::contiguous(codes)),
        priors_(torch::stable::contiguous(priors)),
        image_sizes_(torch::stable::contiguous(image_sizes)) {
    check_shape("logits", logits, {-1, -1, -1});
    args.batch = logits.size(0);
    args.num_priors = logits.size(1);
    args.num_classes = logits.size(2);
    check_shape("codes", codes, {args.batch, args.num_priors, -1});
    check_shape("image_sizes", image_sizes, {args.batch, 2});
    check_dtype("image_sizes", image_sizes, ScalarType::Float);
    check_same_device("codes", codes, logits);
    check_same_device("priors", priors, logits);
    check_same_device("image_sizes", image_sizes, logits);
    args.logits = logits_.const_data_ptr();
    args.logits_dtype = single_dtype("logits", logits);
    args.codes = codes_.const_data_ptr();
    args.codes_dtype = single_dtype("codes", codes);
    args.image_sizes = image_sizes_.const_data_ptr<float>();
    if (quality) {
      check_shape("quality", *quality, {args.batch, args.num_priors});
      check_same_device("quality", *quality, logits);
      args.quality_dtype = single_dtype("quality", *quality);
      quality_ = torch::stable::contiguous(*quality);
      args.quality = quality_->const_data_ptr();
    }
    args.code = box_code_args(code, code_numbers, codes.size(2), clips);
    set_levels(level_sizes, cell_priors);
    set_priors(priors, cell_priors, strides);
    check(rivals >= 0 && rivals < 3, "`rivals` must be 0 to 2, got ", rivals);
    check(iou_threshold >= 0.0 && iou_threshold <= 1.0, "`iou_threshold` must lie in [0, 1], got ", iou_threshold);
    check(max_output >= 0, "`max_output` must not be negative, got ", max_output);
    args.limit = limit;
    args.score_threshold = static_cast<float>(score_threshold);
    args.best_class = best_class;
    args.min_size = static_cast<float>(min_size);
    args.rivals = static_cast<Rivals>(rivals);
    args.iou_threshold = static_cast<float>(iou_threshold);
    args.max_output = max_output;
    boxes = new_tensor({args.batch, max_output, 4}, ScalarType::Float, logits);
    scores = new_tensor({args.batch, max_output}, ScalarType::Float, logits);
    labels = new_tensor({args.batch, max_output}, ScalarType::Long, logits);
    counts = new_tensor({args.batch}, ScalarType::Long, logits);
    args.boxes = boxes.mutable_data_ptr<float>();
    args.scores = scores.mutable_data_ptr<float>();
    args.labels = labels.mutable_data_ptr<int64_t>();
    args.counts = counts.mutable_data_ptr<int64_t>();
  }

  std::tuple<Tensor, Tensor, Tensor, Tensor> results() const { return {boxes, scores, labels, counts}; }

  DensePostprocessArgs args{};
  Tensor boxes;
  Tensor scores;
  Tensor labels;
  Tensor counts;

 private:
  static DType single_dtype(const char* name, const Tensor& tensor) {
    const DType dtype = feature_dtype(name, tensor.scalar_type());
    check(dtype != DType::kFloat64, "`", name, "` must be float32, float16 or bfloat16, got float64");
    return dtype;
  }

  void set_levels(const std::vector<int64_t>& level_sizes, const std::vector<int64_t>& cell_priors) {
    const size_t num_levels = cell_priors.size();
    check(num_levels <= kMaxAnchorLevels, "`cell_priors` may hold ", kMaxAnchorLevels, " levels, got ", num_levels);
    check(level_sizes.size() == 2 * num_levels, "`level_sizes` must hold (H, W) of each of the ", num_levels,
          " levels, got ", level_sizes.size(), " numbers");
    args.num_levels = static_cast<int>(num_levels);
    int64_t first = 0;
    for (size_t l = 0; l < num_levels; ++l) {
      const int64_t height = level_sizes[2 * l];
      const int64_t width = level_sizes[2 * l + 1];
      check(height >= 0 && width >= 0 && cell_priors[l] >= 0, "`level_sizes` and `cell_priors` must not be negative");
      args.levels[l] = {height, width, 0.0f, 0.0f, first};
      args.lengths[l] = height * width * cell_priors[l];
      check(args.lengths[l] * args.num_classes < (int64_t{1} << 32), "a level may hold 2^32 pairs of prior and class");
      first += args.lengths[l];
    }
    check(first == args.num_priors, "the levels hold ", first, " priors, but `logits` has ", args.num_priors);
  }

  void set_priors(const Tensor& priors, const std::vector<int64_t>& cell_priors, const std::vector<double>& strides) {
    check_dtype("priors", priors, ScalarType::Float);
    args.priors = priors_.const_data_ptr<float>();
    if (strides.empty()) {
      if (priors.dim() == 2) check_shape("priors", priors, {args.num_priors, 4});
      else check_shape("priors", priors, {args.batch, args.num_priors, 4});
      args.prior_stride = priors.dim() == 2 ? 0 : args.num_priors * 4;
      return;
    }
    check_shape("priors", priors, {args.num_levels, -1, 4});
    check(static_cast<int>(strides.size()) == 2 * args.num_levels, "`strides` must hold (x, y) of each of the ",
          args.num_levels, " levels");
    args.base_per_cell = priors.size(1);
    for (int l = 0; l < args.num_levels; ++l) {
      check(cell_priors[l] == args.base_per_cell, "`cell_priors` must equal the ", args.base_per_cell,
            " base anchors of `priors`");
      args.levels[l].stride_x = static_cast<float>(strides[2 * l]);
      args.levels[l].stride_y = static_cast<float>(strides[2 * l + 1]);
    }
  }

  Tensor logits_;
  Tensor codes_;
  Tensor priors_;
  Tensor image_sizes_;
  std::optional<Tensor> quality_;
};

}  // namespace fastdet
