// Soft non-maximum suppression, exact per group: overlapping boxes lose score instead of being left out.
//
// Source: Bodla et al., "Soft-NMS" (ICCV 2017), equations 1 to 3 and figure 2, in MMCV's form.
#pragma once

#include <cmath>

#include "boxes.h"
#include "nms.h"

namespace fastdet {

enum class SoftNmsMethod : int { kNaive, kLinear, kGaussian };

struct SoftNmsRule {
  SoftNmsMethod method;
  float iou_threshold;  // naive and linear: overlaps from here on count
  float sigma;          // gaussian
  float min_score;      // boxes below are left out
};

// The threshold of `input` is not used.
// Writes the kept boxes of each image by their final score into [batch, max_output], zeros behind, their final scores,
// and the counts. Ties take the lower index first; NaN scores are left out. If no box reaches min_score, the best one
// is kept alone, as in MMCV.
struct SoftNmsOutput {
  int64_t max_output;
  int64_t* kept;
  float* scores;
  int64_t* counts;
};

void soft_nms_cpu(const NmsInput& input, const SoftNmsRule& rule, const SoftNmsOutput& output, ParallelRunner run);

// The same on a device, without waiting; the workspace holds batch * size floats. cudaError_t.
int soft_nms_cuda(const NmsInput& input, const SoftNmsRule& rule, const SoftNmsOutput& output, float* workspace,
                  void* stream);

// For boxes [size, 4] in score order: owners[i] is the first box before i that is its own owner and overlaps i by at
// least the threshold, or i.
void nms_match_cpu(const float* boxes, int64_t size, float threshold, int64_t* owners);
int nms_match_cuda(const float* boxes, int64_t size, float threshold, int64_t* owners, void* stream);

inline namespace FASTDET_ISA {

// What a chosen box leaves of another one's score. An overlap that is not a number is none.
FASTDET_HD float softened(const SoftNmsRule& rule, float score, float inter, float area_a, float area_b) {
  const float overlap = inter / (exact_add(area_a, area_b) - inter);
  if (rule.method == SoftNmsMethod::kGaussian) {
    return overlap > 0.0f ? score * static_cast<float>(exp(-exact_mul(overlap, overlap) / rule.sigma)) : score;
  }
  if (!(overlap >= rule.iou_threshold)) return score;
  return rule.method == SoftNmsMethod::kNaive ? 0.0f : score * (1.0f - overlap);
}

// Whether box b belongs to box a; an IoU equal to the threshold is enough.
template <typename V>
FASTDET_HD auto iou_reaches(V inter, V area_a, V area_b, V threshold) {
  const V joint = exact_add(area_a, area_b) - inter;
  return (joint > V{}) & (inter >= exact_mul(threshold, joint));
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
