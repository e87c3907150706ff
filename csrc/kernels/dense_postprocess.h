// Detections or region proposals from what a dense head says at every prior of every level, in one call.
//
// A candidate is a pair of prior and class whose score, the sigmoid of its logit, is above a threshold. Each level
// gives its best candidates (ties: the earlier pair); their boxes are decoded, small ones dropped, scores multiplied by
// the quality that the head gives the prior, and the rest thinned by NMS. Of equal scores the earlier pair comes first.
// A logit that is NaN or minus infinity is no candidate.
//
// With `best_class` a candidate is a prior with the class of its best score (ties: the lower class), and its score has
// the quality in it from the start, for the threshold, which it reaches, and for the choice of the level's best.
#pragma once

#include <cstddef>

#include "anchors.h"
#include "box_codes.h"

namespace fastdet {

enum class Rivals : int { kSameClass, kSameLevel, kAll };  // which boxes suppress each other

struct DensePostprocessArgs {
  int64_t batch;
  int64_t num_priors;
  int64_t num_classes;
  const void* logits;  // [batch, num_priors, num_classes]
  DType logits_dtype;  // float, half or bfloat16, as the next two
  const void* codes;   // [batch, num_priors, code.numbers]
  DType codes_dtype;
  const void* quality;  // [batch, num_priors] logits, or null
  DType quality_dtype;
  const float* image_sizes;  // [batch, 2] (H, W)
  BoxCodeArgs code;

  const float* priors;    // xyxy [num_priors, 4], or [num_levels, base_per_cell, 4] around the origin
  int64_t prior_stride;   // between the priors of two images, in numbers; 0: the images share them
  int64_t base_per_cell;  // base anchors a cell; 0: `priors` are not base anchors
  AnchorLevel levels[kMaxAnchorLevels];  // sizes and strides are read for base anchors only
  int64_t lengths[kMaxAnchorLevels];     // priors of each level
  int num_levels;

  int64_t limit;          // candidates a level at most; 0 or less: all
  float score_threshold;  // candidates are above it, or with `best_class` reach it; negative: every one
  bool best_class;
  float min_size;         // boxes have width and height above it; negative: any
  Rivals rivals;
  float iou_threshold;
  int64_t max_output;

  float* boxes;     // [batch, max_output, 4], zeros behind the count, as below
  float* scores;    // [batch, max_output]
  int64_t* labels;  // [batch, max_output]
  int64_t* counts;  // [batch]
};

void dense_postprocess_cpu(const DensePostprocessArgs& args, ParallelRunner run);

// The same on the device of the current context, without waiting; at most six launches (with `best_class` seven) where an
// image has at most 8192 candidates. Returns a cudaError_t. The workspace has dense_postprocess_cuda_workspace(...) bytes.
size_t dense_postprocess_cuda_workspace(const DensePostprocessArgs& args, int* error);
int dense_postprocess_cuda(const DensePostprocessArgs& args, void* workspace, size_t workspace_bytes, void* stream);

inline namespace FASTDET_ISA {

// How many pairs a level has of which each may be a candidate. The number of a pair is that of its prior in the level
// times the classes of a prior, plus its class; with `best_class` that of its prior.
FASTDET_HD int64_t classes_of_prior(const DensePostprocessArgs& args) { return args.best_class ? 1 : args.num_classes; }

FASTDET_HD int64_t level_pairs(const DensePostprocessArgs& args, int level) {
  return args.num_classes > 0 ? args.lengths[level] * classes_of_prior(args) : 0;
}

// Candidates that a level can give.
FASTDET_HD int64_t level_room(const DensePostprocessArgs& args, int level) {
  const int64_t pairs = level_pairs(args, level);
  return args.limit > 0 && args.limit < pairs ? args.limit : pairs;
}

// The prior of an image, by its number.
FASTDET_HD void prior_at(const DensePostprocessArgs& args, int64_t image, int level, int64_t number, float* prior) {
  if (args.base_per_cell == 0) {
    for (int k = 0; k < 4; ++k) prior[k] = args.priors[image * args.prior_stride + number * 4 + k];
    return;
  }
  const AnchorLevel& place = args.levels[level];
  const int64_t index = number - place.first;
  const int64_t cell = index / args.base_per_cell;
  const float* base = args.priors + (level * args.base_per_cell + index % args.base_per_cell) * 4;
  shift_anchor(place, base, cell / place.width, cell % place.width, prior);
}

FASTDET_HD bool is_large(const DensePostprocessArgs& args, const float* box) {
  return args.min_size < 0.0f ||
         (exact_add(box[2], -box[0]) > args.min_size && exact_add(box[3], -box[1]) > args.min_size);
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
