// Multi-scale deformable attention, forward and backward.
//
// out[b, q, m, :] = sum over levels l and points p of weight[b, q, m, l, p] *
//                   sample(value of level l and head m, x * width_l - 1/2, y * height_l - 1/2)
//
// with bilinear samples, zeros outside of the map, and locations (x, y) that are 0 and 1 at the edges of the map.
// Source: Zhu et al., "Deformable DETR" (ICLR 2021), eq. 3. Locations, weights and sums are float (double for double
// values) whatever the type of the values is.
#pragma once

#include "common.h"

namespace fastdet {

constexpr int kMaxAttentionLevels = 16;

struct AttentionLevel {
  int64_t height;
  int64_t width;
  int64_t start;  // its first cell among the cells of all levels
};

struct MsDeformAttnArgs {
  DType dtype;            // of value and output
  const void* value;      // [batch, cells, heads, channels], the levels' cells one after the other, row by row
  const void* locations;  // [batch, queries, heads, levels, points, (x, y)]
  const void* weights;    // [batch, queries, heads, levels, points]
  int64_t batch;
  int64_t cells;
  int64_t heads;
  int64_t channels;
  int64_t queries;
  int64_t num_levels;
  int64_t points;
  AttentionLevel levels[kMaxAttentionLevels];

  FASTDET_HD int64_t samples() const { return num_levels * points; }
};

// All of A, which is float, or double for double values.
struct MsDeformAttnGradients {
  const void* output;  // [batch, queries, heads, channels], in `dtype`
  void* value;         // as `value`; on a device, zeros on entry
  void* locations;     // as `locations`
  void* weights;       // as `weights`
};

// Writes [batch, queries, heads, channels].
void ms_deform_attn_forward_cpu(const MsDeformAttnArgs& args, void* output, ParallelRunner run);

// Deterministic: each image's head is summed by one task, query by query. A task may hold a copy of its head's values
// and of their gradient.
void ms_deform_attn_backward_cpu(const MsDeformAttnArgs& args, const MsDeformAttnGradients& gradients,
                                 ParallelRunner run);

// The same on a device; both return a cudaError_t. The sums in gradients.value are atomic: their order, hence their
// last bits, may differ from run to run.
int ms_deform_attn_forward_cuda(const MsDeformAttnArgs& args, void* output, void* stream);
int ms_deform_attn_backward_cuda(const MsDeformAttnArgs& args, const MsDeformAttnGradients& gradients, void* stream);

}  // namespace fastdet
