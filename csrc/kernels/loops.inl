// The inner loops themselves; each file of simd/ includes this once with FASTDET_ISA set. No standard container or
// algorithm is used here: their instances would be shared between the instruction sets.

// These come first: the vector forms of `smaller`, `larger` and `arctangent` must be known where boxes.h and box_iou.h
// call them.
#include "simd.h"
#include "vector_math.h"

#include "boxes.h"
#include "cpu_kernels.h"
#include "sigmoid_focal_loss.h"

#include "assign_max_iou.inl"
#include "box_iou.inl"
#include "deform_conv2d.inl"
#include "dense_postprocess.inl"
#include "gemm.inl"
#include "ms_deform_attn.inl"
#include "nms.inl"
#include "paste_masks.inl"
#include "roi_align.inl"
#include "roi_max_pool.inl"
#include "sigmoid_focal_loss.inl"
#include "soft_nms.inl"

namespace fastdet {
inline namespace FASTDET_ISA {

inline CpuKernels kernels_of_this_set(const char* name) {
  return {name,
          &nms_segment,
          &nms_in_grid,
          {{&forward_rows<float>, &forward_plane<float>},
           {&forward_rows<Half>, &forward_plane<Half>},
           {&forward_rows<BFloat16>, &forward_plane<BFloat16>},
           {&forward_rows<double>, &forward_plane<double>}},
          {{&gradient_rows<float>, &gradient_plane<float>}, {&gradient_rows<double>, &gradient_plane<double>}},
          {{kPanelColumns<float>, &pack_panels<float>, &multiply_packed<float>},
           {kPanelColumns<double>, &pack_panels<double>, &multiply_packed<double>}},
          {{&gather_columns<float>, &scatter_columns<float>},
           {&gather_columns<Half>, &scatter_columns<Half>},
           {&gather_columns<BFloat16>, &scatter_columns<BFloat16>},
           {&gather_columns<double>, &scatter_columns<double>}},
          &assign_best,
          &assign_equal,
          {{&attend_samples<float>, &scatter_samples<float>},
           {&attend_samples<Half>, &scatter_samples<Half>},
           {&attend_samples<BFloat16>, &scatter_samples<BFloat16>},
           {&attend_samples<double>, &scatter_samples<double>}},
          {{&locate_samples<float>, &sample_slopes<float>}, {&locate_samples<double>, &sample_slopes<double>}},
          &find_above<float>,
          &find_above<Half>,
          &find_above<BFloat16>,
          {{&focal_values<float>, &focal_slopes<float>}, {&focal_values<double>, &focal_slopes<double>}},
          {{&widen_row<float>, &narrow_row<float>},
           {&widen_row<Half>, &narrow_row<Half>},
           {&widen_row<BFloat16>, &narrow_row<BFloat16>},
           {&widen_row<double>, &narrow_row<double>}},
          {{&overlap_row<float>, &overlap_pairs<float>, &overlap_slopes<float>},
           {&overlap_row<double>, &overlap_pairs<double>, &overlap_slopes<double>}},
          &soft_nms_segment,
          &nms_match,
          &paste_row,
          {{&raise_maximum<float>}, {&raise_maximum<Half>}, {&raise_maximum<BFloat16>}, {&raise_maximum<double>}},
          {{&largest_cell<float>}, {&largest_cell<Half>}, {&largest_cell<BFloat16>}, {&largest_cell<double>}}};
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
