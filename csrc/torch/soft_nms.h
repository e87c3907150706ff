// Arguments of the soft-NMS ops, checked once for both devices.
#pragma once

#include "../kernels/soft_nms.h"
#include "nms.h"

namespace fastdet {

inline SoftNmsRule soft_nms_rule(int64_t method, double iou_threshold, double sigma, double min_score) {
  check(method >= 0 && method <= static_cast<int64_t>(SoftNmsMethod::kGaussian), "`method` must lie in [0, 2], got ",
        method);
  check(sigma > 0.0, "`sigma` must be positive, got ", sigma);
  return {static_cast<SoftNmsMethod>(method), static_cast<float>(iou_threshold), static_cast<float>(sigma),
          static_cast<float>(min_score)};
}

struct SoftNmsResult {
  SoftNmsResult(int64_t batch, int64_t max_output, const Tensor& like)
      : index(new_tensor({batch, max_output}, ScalarType::Long, like)),
        scores(new_tensor({batch, max_output}, ScalarType::Float, like)),
        count(new_tensor({batch}, ScalarType::Long, like)) {
    check(max_output >= 0, "`max_output` must not be negative, got ", max_output);
    output = {max_output, index.mutable_data_ptr<int64_t>(), scores.mutable_data_ptr<float>(),
              count.mutable_data_ptr<int64_t>()};
  }

  Tensor index;
  Tensor scores;
  Tensor count;
  SoftNmsOutput output;
};

inline void check_match_arguments(const Tensor& boxes, double iou_threshold) {
  check_shape("boxes", boxes, {-1, 4});
  check_dtype("boxes", boxes, ScalarType::Float);
  check(boxes.size(0) < (int64_t{1} << 31), "`boxes` may hold less than 2^31 boxes, got ", boxes.size(0));
  check(iou_threshold >= 0.0 && iou_threshold <= 1.0, "`iou_threshold` must lie in [0, 1], got ", iou_threshold);
}

}  // namespace fastdet
