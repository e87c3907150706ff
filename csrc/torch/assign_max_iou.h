// Arguments of assign_max_iou, checked once for both devices.
#pragma once

#include "../kernels/assign_max_iou.h"
#include "common.h"

namespace fastdet {

// The contiguous arguments and the results live here.
class AssignMaxIouArguments {
 public:
  AssignMaxIouArguments(const Tensor& boxes, const Tensor& objects, const Tensor& valid,
                        const std::optional<Tensor>& candidates, const std::optional<Tensor>& blocked,
                        double positive, double negative_low, double negative_high, double min_positive,
                        bool match_low_quality, bool all_ties)
      : boxes_(torch::stable::contiguous(boxes)),
        objects_(torch::stable::contiguous(objects)),
        valid_(torch::stable::contiguous(valid)) {
    check_shape("objects", objects, {-1, -1, 4});
    args.shared_boxes = boxes.dim() == 2;
    args.batch = objects.size(0);
    if (args.shared_boxes) check_shape("boxes", boxes, {-1, 4});
    else check_shape("boxes", boxes, {args.batch, -1, 4});
    check_dtype("boxes", boxes, ScalarType::Float);
    check_dtype("objects", objects, ScalarType::Float);
    check_same_device("objects", objects, boxes);
    args.num_boxes = boxes.size(args.shared_boxes ? 0 : 1);
    args.num_objects = objects.size(1);
    constexpr int64_t kMost = int64_t{1} << 31;
    check(args.num_boxes < kMost && args.num_objects < kMost && args.batch < 65536,
          "`boxes` and `objects` may hold 2^31 rows in 65535 images");
    check_shape("valid", valid, {args.batch, args.num_objects});
    check_dtype("valid", valid, ScalarType::Bool);
    check_same_device("valid", valid, boxes);
    args.candidates = flags("candidates", candidates, candidates_);
    args.blocked = flags("blocked", blocked, blocked_);
    args.boxes = boxes_.const_data_ptr<float>();
    args.objects = objects_.const_data_ptr<float>();
    args.valid = valid_.const_data_ptr<bool>();
    args.positive = static_cast<float>(positive);
    args.negative_low = static_cast<float>(negative_low);
    args.negative_high = static_cast<float>(negative_high);
    args.min_positive = static_cast<float>(min_positive);
    args.match_low_quality = match_low_quality;
    args.all_ties = all_ties;
    index = new_tensor({args.batch, args.num_boxes}, ScalarType::Long, boxes);
    iou = new_tensor({args.batch, args.num_boxes}, ScalarType::Float, boxes);
    args.index = index.mutable_data_ptr<int64_t>();
    args.iou = iou.mutable_data_ptr<float>();
  }

  AssignMaxIouArgs args{};
  Tensor index;
  Tensor iou;

 private:
  const bool* flags(const char* name, const std::optional<Tensor>& given, std::optional<Tensor>& kept) {
    if (!given) return nullptr;
    check_shape(name, *given, {args.batch, args.num_boxes});
    check_dtype(name, *given, ScalarType::Bool);
    check_same_device(name, *given, boxes_);
    kept = torch::stable::contiguous(*given);
    return kept->const_data_ptr<bool>();
  }

  Tensor boxes_;
  Tensor objects_;
  Tensor valid_;
  std::optional<Tensor> candidates_;
  std::optional<Tensor> blocked_;
};

}  // namespace fastdet
