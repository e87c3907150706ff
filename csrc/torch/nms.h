// Arguments of the NMS ops, checked once for both devices.
#pragma once

#include "../kernels/nms.h"
#include "common.h"

namespace fastdet {

// Contiguous arguments, kept alive while the kernel reads them.
class NmsArguments {
 public:
  // Boxes [batch, size, 4], or [size, 4] with batch left out everywhere.
  NmsArguments(const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& groups,
               const std::optional<Tensor>& valid, double iou_threshold, bool batched)
      : boxes_(torch::stable::contiguous(boxes)), scores_(torch::stable::contiguous(scores)) {
    check(boxes.dim() == (batched ? 3 : 2), "`boxes` must have shape ", batched ? "[*, *, 4]" : "[*, 4]", ", got ",
          shape_of(boxes));
    const int64_t batch = batched ? boxes.size(0) : 1;
    const int64_t size = boxes.size(batched ? 1 : 0);
    check(boxes.size(boxes.dim() - 1) == 4, "`boxes` must have 4 coordinates, got ", shape_of(boxes));
    check_dtype("boxes", boxes, ScalarType::Float);
    check_dtype("scores", scores, ScalarType::Float);
    check_like_scores("scores", scores, boxes, batch, size, batched);
    if (groups) {
      check_dtype("groups", *groups, ScalarType::Long);
      check_like_scores("groups", *groups, boxes, batch, size, batched);
      groups_ = torch::stable::contiguous(*groups);
    }
    if (valid) {
      check_dtype("valid", *valid, ScalarType::Bool);
      check_like_scores("valid", *valid, boxes, batch, size, batched);
      valid_ = torch::stable::contiguous(*valid);
    }
    check(iou_threshold >= 0.0 && iou_threshold <= 1.0, "`iou_threshold` must lie in [0, 1], got ", iou_threshold);
    check(size < (int64_t{1} << 32), "`boxes` may hold less than 2^32 boxes an image, got ", size);
    input = {boxes_.const_data_ptr<float>(),
             scores_.const_data_ptr<float>(),
             groups_ ? groups_->const_data_ptr<int64_t>() : nullptr,
             valid_ ? valid_->const_data_ptr<bool>() : nullptr,
             batch,
             size,
             static_cast<float>(iou_threshold)};
  }

  NmsInput input;

 private:
  static void check_like_scores(const char* name, const Tensor& tensor, const Tensor& boxes, int64_t batch,
                                int64_t size, bool batched) {
    if (batched) check_shape(name, tensor, {batch, size});
    else check_shape(name, tensor, {size});
    check_same_device(name, tensor, boxes);
  }

  Tensor boxes_;
  Tensor scores_;
  std::optional<Tensor> groups_;
  std::optional<Tensor> valid_;
};

}  // namespace fastdet
