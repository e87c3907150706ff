// Greedy non-maximum suppression, exact per group.
//
// Boxes are taken by descending score (ties: lower index first; NaN scores last). A taken box suppresses every later
// box of its group whose IoU with it exceeds the threshold.
#pragma once

#include <cstddef>

#include "common.h"

namespace fastdet {

struct NmsInput {
  const float* boxes;     // [batch, size, 4] xyxy
  const float* scores;    // [batch, size]
  const int64_t* groups;  // [batch, size], or null: one group
  const bool* valid;      // [batch, size], or null: all
  int64_t batch;
  int64_t size;
  float threshold;
};

// Writes kept[0 .. count) of each image in score order into [batch, max_output], zeros behind, and the counts.
void nms_cpu(const NmsInput& input, int64_t max_output, int64_t* kept, int64_t* counts, ParallelRunner run);

// The same on the device of the current context, on `stream` (a cudaStream_t), without waiting. Returns a
// cudaError_t. The workspace has nms_cuda_workspace(...) bytes; 0 bytes with *error set says that CUB failed.
size_t nms_cuda_workspace(int64_t batch, int64_t size, int64_t max_output, int* error);
int nms_cuda(const NmsInput& input, int64_t max_output, int64_t* kept, int64_t* counts, void* workspace,
             size_t workspace_bytes, void* stream);

}  // namespace fastdet
