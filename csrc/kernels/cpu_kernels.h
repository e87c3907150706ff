// The inner loops that are compiled for several instruction sets, and the choice among them at run time.
#pragma once

#include "half.h"

namespace fastdet {

// Bins of one axis as lists: bin p takes cells[begin[p]] .. cells[begin[p + 1] - 1] with the weights beside them.
template <typename A>
struct AxisWeights {
  const int* begin;
  const int* cells;
  const A* weights;
};

template <typename A>
struct RoiWeights {
  AxisWeights<A> y;
  AxisWeights<A> x;
  int64_t out_h;
  int64_t out_w;
  A count;  // samples per bin
};

// One image of one level; strides in elements. Loops whose name ends in `rows` want stride_c == 1.
struct ImageStrides {
  int64_t y;
  int64_t x;
};

template <typename T>
struct RoiAlignLoops {
  using A = accumulator_t<T>;
  // out[bin, c] for channels [0, channels), channels innermost in both.
  void (*forward_rows)(const T* image, ImageStrides strides, int64_t channels, const RoiWeights<A>& roi, T* out);
  // out[bin * out_stride] of one channel plane; `line` holds one value for each column in [x_begin, x_end).
  void (*forward_plane)(const T* plane, ImageStrides strides, const RoiWeights<A>& roi, int x_begin, int x_end, A* line,
                        T* out, int64_t out_stride);
};

// Gradients are summed in A whatever the feature type is.
template <typename A>
struct RoiAlignGradientLoops {
  // image[y, x, c] += weights * grad[bin, c], channels innermost in both; grad is already divided by the count.
  void (*rows)(A* image, ImageStrides strides, int64_t channels, const RoiWeights<A>& roi, const A* grad);
  void (*plane)(A* plane, ImageStrides strides, const RoiWeights<A>& roi, int x_begin, int x_end, A* line,
                const A* grad);
};

// Boxes of one group in score order, one array per coordinate, padded with zeros to a multiple of kNmsPadding.
struct NmsSegment {
  const float* x1;
  const float* y1;
  const float* x2;
  const float* y2;
  const float* area;
  int32_t* dead;  // all zero on entry, padded as well
  int64_t size;
};

constexpr int64_t kNmsPadding = 16;

struct CpuKernels {
  const char* name;
  // Greedy NMS of one group: writes the kept positions in order, returns how many; stops at max_output.
  int64_t (*nms_segment)(const NmsSegment& segment, float threshold, int64_t max_output, int64_t* kept);
  RoiAlignLoops<float> roi_align_float;
  RoiAlignLoops<Half> roi_align_half;
  RoiAlignLoops<BFloat16> roi_align_bfloat16;
  RoiAlignLoops<double> roi_align_double;
  RoiAlignGradientLoops<float> roi_align_gradient_float;
  RoiAlignGradientLoops<double> roi_align_gradient_double;

  template <typename T>
  const RoiAlignLoops<T>& roi_align() const {
    if constexpr (sizeof(T) == 8) return roi_align_double;
    else if constexpr (sizeof(T) == 4) return roi_align_float;
    else return half_loops(static_cast<const T*>(nullptr));
  }

  template <typename A>
  const RoiAlignGradientLoops<A>& roi_align_gradient() const {
    if constexpr (sizeof(A) == 8) return roi_align_gradient_double;
    else return roi_align_gradient_float;
  }

 private:
  const RoiAlignLoops<Half>& half_loops(const Half*) const { return roi_align_half; }
  const RoiAlignLoops<BFloat16>& half_loops(const BFloat16*) const { return roi_align_bfloat16; }
};

// The widest set that this processor runs. FASTDET_CPU=baseline|avx2|avx512 asks for a narrower one.
const CpuKernels& cpu_kernels();

}  // namespace fastdet
