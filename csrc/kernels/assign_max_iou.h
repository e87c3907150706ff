// Assignment of candidate boxes to objects by intersection over union, without the matrix of all pairs.
//
// Source: Ren et al., "Faster R-CNN" (NeurIPS 2015), section 3.1.2; low-quality matches as in MMDetection.
#pragma once

#include "common.h"

namespace fastdet {

constexpr int64_t kBackground = -1;
constexpr int64_t kIgnored = -2;

struct AssignMaxIouArgs {
  const float* boxes;        // [batch or 1, num_boxes, 4] xyxy
  bool shared_boxes;         // the images share them
  const float* objects;      // [batch, num_objects, 4] xyxy
  const bool* valid;         // [batch, num_objects]
  const bool* candidates;    // [batch, num_boxes], or null: all
  const bool* blocked;       // [batch, num_boxes]: ignored however they overlap; null: none
  int64_t batch;
  int64_t num_boxes;
  int64_t num_objects;
  float positive;            // smallest IoU of a positive
  float negative_low;        // negatives have low <= IoU < high
  float negative_high;
  float min_positive;        // smallest IoU of a low-quality match
  bool match_low_quality;
  bool all_ties;             // a low-quality match takes all candidates that share the best IoU, else the first
  int64_t* index;            // [batch, num_boxes]: the object, kBackground or kIgnored
  float* iou;                // [batch, num_boxes]: the best IoU, -1 where blocked, 0 where no candidate
};

void assign_max_iou_cpu(const AssignMaxIouArgs& args, ParallelRunner run);

// On a device; `best` is a workspace of batch * num_objects numbers. Returns a cudaError_t.
int assign_max_iou_cuda(const AssignMaxIouArgs& args, uint64_t* best, void* stream);

}  // namespace fastdet
