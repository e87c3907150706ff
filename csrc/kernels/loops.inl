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
#include "roi_max_pool.inl"
#include "sigmoid_focal_loss.inl"
#include "soft_nms.inl"

namespace fastdet {
inline namespace FASTDET_ISA {

// `kVectors` vectors of channels of one bin.
template <int kVectors, typename T, typename A>
inline void forward_bin(const T* image, ImageStrides strides, const RoiWeights<A>& roi, int64_t ph, int64_t pw,
                        T* out) {
  using V = vector_t<A>;
  V sum[kVectors] = {};
  for (int i = roi.y.begin[ph]; i < roi.y.begin[ph + 1]; ++i) {
    const T* row = image + roi.y.cells[i] * strides.y;
    for (int j = roi.x.begin[pw]; j < roi.x.begin[pw + 1]; ++j) {
      const T* cell = row + roi.x.cells[j] * strides.x;
      const V weight = splat(roi.y.weights[i] * roi.x.weights[j]);
      for (int v = 0; v < kVectors; ++v) {
        sum[v] = multiply_add(weight, V(load(cell + v * kLanes<A>)), sum[v]);
      }
    }
  }
  for (int v = 0; v < kVectors; ++v) store<T>(out + v * kLanes<A>, sum[v] / splat(roi.count));
}

template <typename T, typename A>
inline void forward_bin_one(const T* image, ImageStrides strides, const RoiWeights<A>& roi, int64_t ph, int64_t pw,
                            T* out) {
  A sum = A(0);
  for (int i = roi.y.begin[ph]; i < roi.y.begin[ph + 1]; ++i) {
    const T* row = image + roi.y.cells[i] * strides.y;
    for (int j = roi.x.begin[pw]; j < roi.x.begin[pw + 1]; ++j) {
      sum += roi.y.weights[i] * roi.x.weights[j] * widen(row[roi.x.cells[j] * strides.x]);
    }
  }
  *out = narrow<T>(sum / roi.count);
}

template <typename T>
inline void forward_rows(const T* image, ImageStrides strides, int64_t channels,
                         const RoiWeights<accumulator_t<T>>& roi, T* out) {
  constexpr int64_t lanes = kLanes<accumulator_t<T>>;
  for (int64_t ph = 0; ph < roi.out_h; ++ph) {
    for (int64_t pw = 0; pw < roi.out_w; ++pw, out += channels) {
      int64_t c = 0;
      for (; c + 4 * lanes <= channels; c += 4 * lanes) forward_bin<4>(image + c, strides, roi, ph, pw, out + c);
      for (; c + lanes <= channels; c += lanes) forward_bin<1>(image + c, strides, roi, ph, pw, out + c);
      for (; c < channels; ++c) forward_bin_one(image + c, strides, roi, ph, pw, out + c);
    }
  }
}

// Rows are summed first, into one line of the columns in use, and the line is then summed into bins: the weights are
// products, so that rows cost vector operations even though a channel's cells lie far from the next channel's. Whole
// vectors are read past the columns in use where that stays before `end`.
template <typename T>
inline void forward_plane(const T* plane, const T* end, ImageStrides strides, const RoiWeights<accumulator_t<T>>& roi,
                          int x_begin, int x_end, accumulator_t<T>* line, T* out, int64_t out_stride) {
  using A = accumulator_t<T>;
  using V = vector_t<A>;
  constexpr int lanes = kLanes<A>;
  for (int64_t ph = 0; ph < roi.out_h; ++ph) {
    const int first = roi.y.begin[ph], last = roi.y.begin[ph + 1];
    bool whole = strides.x == 1;
    for (int i = first; i < last; ++i) {
      whole = whole && end - (plane + roi.y.cells[i] * strides.y + x_end) >= lanes;
    }
    if (whole) {
      for (int x = x_begin; x < x_end; x += lanes) {
        V sum = V{};
        for (int i = first; i < last; ++i) {
          sum = multiply_add(splat(roi.y.weights[i]), V(load(plane + roi.y.cells[i] * strides.y + x)), sum);
        }
        store<A>(line + (x - x_begin), sum);
      }
    } else {
      for (int x = x_begin; x < x_end; ++x) {
        A sum = A(0);
        for (int i = first; i < last; ++i) {
          sum += roi.y.weights[i] * widen(plane[roi.y.cells[i] * strides.y + x * strides.x]);
        }
        line[x - x_begin] = sum;
      }
    }
    for (int64_t pw = 0; pw < roi.out_w; ++pw, out += out_stride) {
      A sum = A(0);
      for (int j = roi.x.begin[pw]; j < roi.x.begin[pw + 1]; ++j) {
        sum += roi.x.weights[j] * line[roi.x.cells[j] - x_begin];
      }
      *out = narrow<T>(sum / roi.count);
    }
  }
}

template <typename A>
inline void gradient_rows(A* image, ImageStrides strides, int64_t channels, const RoiWeights<A>& roi, const A* grad) {
  constexpr int64_t lanes = kLanes<A>;
  for (int64_t ph = 0; ph < roi.out_h; ++ph) {
    for (int64_t pw = 0; pw < roi.out_w; ++pw, grad += channels) {
      for (int i = roi.y.begin[ph]; i < roi.y.begin[ph + 1]; ++i) {
        for (int j = roi.x.begin[pw]; j < roi.x.begin[pw + 1]; ++j) {
          A* cell = image + roi.y.cells[i] * strides.y + roi.x.cells[j] * strides.x;
          const A weight = roi.y.weights[i] * roi.x.weights[j];
          int64_t c = 0;
          for (; c + lanes <= channels; c += lanes) {
            store<A>(cell + c, multiply_add(splat(weight), load(grad + c), load(cell + c)));
          }
          for (; c < channels; ++c) cell[c] += weight * grad[c];
        }
      }
    }
  }
}

// Bins are summed into a line of the columns in use, and the line is added to rows: whole vectors, also past the
// columns in use where that stays before `end`, because the line holds zeros there.
template <typename A>
inline void gradient_plane(A* plane, const A* end, ImageStrides strides, const RoiWeights<A>& roi, int x_begin,
                           int x_end, A* line, const A* grad) {
  constexpr int lanes = kLanes<A>;
  const int size = x_end - x_begin;
  for (int64_t ph = 0; ph < roi.out_h; ++ph, grad += roi.out_w) {
    for (int x = 0; x < size; x += lanes) store<A>(line + x, vector_t<A>{});
    for (int64_t pw = 0; pw < roi.out_w; ++pw) {
      for (int j = roi.x.begin[pw]; j < roi.x.begin[pw + 1]; ++j) {
        line[roi.x.cells[j] - x_begin] += roi.x.weights[j] * grad[pw];
      }
    }
    for (int i = roi.y.begin[ph]; i < roi.y.begin[ph + 1]; ++i) {
      A* row = plane + roi.y.cells[i] * strides.y + x_begin * strides.x;
      const A weight = roi.y.weights[i];
      int x = 0;
      if (strides.x == 1) {
        for (; x < size && end - (row + x) >= lanes; x += lanes) {
          store<A>(row + x, multiply_add(splat(weight), load(line + x), load(row + x)));
        }
      }
      for (; x < size; ++x) row[x * strides.x] += weight * line[x];
    }
  }
}

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
