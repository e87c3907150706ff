// How the numbers that a dense head says at a prior describe a box, shared by the CPU and CUDA twins.
//
// Sources: kDelta: Girshick et al., "Rich feature hierarchies" (CVPR 2014), appendix C; kDistance: Tian et al., "FCOS"
// (ICCV 2019), eq. 1; kDistribution: Li et al., "Generalized Focal Loss" (NeurIPS 2020), eq. 4; kCell: Ge et al.,
// "YOLOX" (2021), section 2.1.
#pragma once

#include <cmath>

#include "boxes.h"

namespace fastdet {

enum class BoxCode : int { kDelta, kDistance, kDistribution, kCell };

struct BoxCodeArgs {
  BoxCode code;
  int64_t numbers;     // said at a prior: 4; 4 * bins for distributions
  float means[4];      // kDelta: numbers are said * std + mean
  float stds[4];
  float log_limit;     // kDelta: largest logarithm of a change of size, and its negative
  float center_limit;  // kDelta: largest shift of the centre in pixels, then only growth is limited; negative: none
  float unit;          // kDistance, kDistribution: widths of the prior, times this, that a distance of 1 is; 0: pixels
  bool clips;          // to the image; never kCell
};

// How many numbers describe a code: means, stds, limits of size and centre; a unit; a unit; nothing.
constexpr int64_t kCodeNumbers[] = {10, 1, 1, 0};

inline namespace FASTDET_ISA {

// From those numbers, with `said` numbers at a prior.
inline BoxCodeArgs box_code_of(BoxCode code, const double* numbers, int64_t said, bool clips) {
  BoxCodeArgs args{};
  args.code = code;
  args.numbers = said;
  args.clips = clips;
  if (code == BoxCode::kDelta) {
    for (int k = 0; k < 4; ++k) args.means[k] = static_cast<float>(numbers[k]);
    for (int k = 0; k < 4; ++k) args.stds[k] = static_cast<float>(numbers[4 + k]);
    args.log_limit = static_cast<float>(numbers[8]);
    args.center_limit = static_cast<float>(numbers[9]);
  } else if (code != BoxCode::kCell) {
    args.unit = static_cast<float>(numbers[0]);
  }
  return args;
}

// 1 / (1 + exp(-x)), which does not decrease as x grows.
FASTDET_HD float sigmoid(float x) { return 1.0f / exact_add(1.0f, expf(-x)); }

FASTDET_HD float bounded(float value, float low, float high) {
  value = value < low ? low : value;  // NaN stays NaN
  return value > high ? high : value;
}

// One axis of a box around `center`.
FASTDET_HD void decode_delta(const BoxCodeArgs& args, float low, float high, float shift, float log_size, int axis,
                             float* box) {
  const float size = exact_add(high, -low);
  float move = exact_mul(size, exact_add(exact_mul(shift, args.stds[axis]), args.means[axis]));
  float log_ratio = exact_add(exact_mul(log_size, args.stds[axis + 2]), args.means[axis + 2]);
  if (args.center_limit >= 0.0f) {
    move = bounded(move, -args.center_limit, args.center_limit);
    log_ratio = log_ratio > args.log_limit ? args.log_limit : log_ratio;
  } else {
    log_ratio = bounded(log_ratio, -args.log_limit, args.log_limit);
  }
  const float center = exact_add(exact_mul(exact_add(low, high), 0.5f), move);
  const float half = exact_mul(exact_mul(size, expf(log_ratio)), 0.5f);
  box[axis] = exact_add(center, -half);
  box[axis + 2] = exact_add(center, half);
}

// The mean of the distribution over 0, 1, ..., bins - 1 that read(0), read(1), ... are the logits of.
template <typename Read>
FASTDET_HD float expectation(int64_t bins, const Read& read) {
  float most = read(0);
  for (int64_t i = 1; i < bins; ++i) most = larger(read(i), most);
  float total = 0.0f;
  float sum = 0.0f;
  for (int64_t i = 0; i < bins; ++i) {
    const float weight = expf(exact_add(read(i), -most));
    total = exact_add(total, weight);
    sum = exact_add(sum, exact_mul(weight, static_cast<float>(i)));
  }
  return sum / total;
}

// The box xyxy that read(0), ..., read(args.numbers - 1) describe at a prior, in an image of this size.
template <typename Read>
FASTDET_HD void decode_box(const BoxCodeArgs& args, const float* prior, const Read& read, float height, float width,
                           float* box) {
  for (int axis = 0; axis < 2; ++axis) {
    const float low = prior[axis];
    const float high = prior[axis + 2];
    const float size = exact_add(high, -low);
    if (args.code == BoxCode::kDelta) {
      decode_delta(args, low, high, read(axis), read(axis + 2), axis, box);
    } else if (args.code == BoxCode::kCell) {
      const float center = exact_add(exact_mul(read(axis), size), low);
      const float half = exact_mul(exact_mul(expf(read(axis + 2)), size), 0.5f);
      box[axis] = exact_add(center, -half);
      box[axis + 2] = exact_add(center, half);
    } else {
      const float center = exact_mul(exact_add(low, high), 0.5f);
      const float unit = args.unit > 0.0f ? exact_mul(size, args.unit) : 1.0f;
      for (int side = axis; side < 4; side += 2) {
        float distance;
        if (args.code == BoxCode::kDistance) {
          distance = read(side);
        } else {
          const int64_t bins = args.numbers / 4;
          distance = expectation(bins, [&](int64_t i) { return read(side * bins + i); });
        }
        distance = exact_mul(distance, unit);
        box[side] = exact_add(center, side < 2 ? -distance : distance);
      }
    }
  }
  if (!args.clips) return;
  for (int side = 0; side < 4; ++side) box[side] = bounded(box[side], 0.0f, side % 2 == 0 ? width : height);
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
