// The inner loops that are compiled for several instruction sets, and the choice among them at run time.
#pragma once

#include <type_traits>

#include "box_iou.h"
#include "deform_taps.h"
#include "half.h"
#include "roi_max_pool.h"
#include "soft_nms.h"

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

// As wide as A.
template <typename A>
using integer_t = std::conditional_t<std::is_same_v<A, float>, int32_t, int64_t>;

// The same lists side by side: cell k of bin p, for k < numbers[p], is cells[k * padded + p]; what follows it there may
// be read as well. Cells are counted from the first in use.
constexpr int64_t kBinPadding = 16;  // lanes of the widest vector

template <typename A>
struct BinTaps {
  const integer_t<A>* cells;
  const A* weights;
  const integer_t<A>* numbers;
  integer_t<A> most;  // of the numbers
  int64_t padded;     // bins, a multiple of kBinPadding
};

// For planes: the columns in use are [x_begin, x_end).
template <typename A>
struct RoiPlane {
  AxisWeights<A> y;
  BinTaps<A> x;
  int x_begin;
  int x_end;
  int64_t out_h;
  int64_t out_w;
  A count;
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
  // out[bin * out_stride] of one channel plane, which can be read up to `end`; the plane `ahead` elements on is wanted
  // next, unless that is 0. `line` holds a value for each column in use and kLinePadding more.
  void (*forward_plane)(const T* plane, const T* end, int64_t ahead, ImageStrides strides, const RoiPlane<A>& roi,
                        A* line, T* out, int64_t out_stride);
};

// Gradients are summed in A whatever the feature type is.
template <typename A>
struct RoiAlignGradientLoops {
  // image[y, x, c] += weights * grad[bin, c], channels innermost in both; grad is already divided by the count.
  void (*rows)(A* image, ImageStrides strides, int64_t channels, const RoiWeights<A>& roi, const A* grad);
  // Of one channel plane, which can be written up to `end`; `line` holds a value for each column in [x_begin, x_end)
  // and kLinePadding more.
  void (*plane)(A* plane, const A* end, ImageStrides strides, const RoiWeights<A>& roi, int x_begin, int x_end, A* line,
                const A* grad);
};

// Boxes of one group in score order, one array per coordinate, padded with zeros to a multiple of kNmsPadding.
struct NmsSegment {
  float* x1;
  float* y1;
  float* x2;
  float* y2;
  float* area;
  int64_t* place;  // 0 .. size - 1 on entry: boxes are moved when many around them are suppressed
  int32_t* dead;   // all zero on entry, padded as well
  int64_t size;
};

// Where the boxes of a large segment lie: a grid over their middles. Arrays have the segment's padded size, except
// `starts` and those of `boxes`.
struct NmsGrid {
  int32_t rows;
  int32_t columns;
  int32_t* cell;  // of each box; rows * columns for one that takes part in nothing
  int32_t* left;  // the cells in which boxes may be that it suppresses: columns left .. right of rows upper .. lower
  int32_t* right;
  int32_t* upper;
  int32_t* lower;
  int32_t* position;  // where the box stands in `boxes`
  int32_t* starts;    // [rows * columns + 3], zero on entry
  NmsSegment boxes;   // sorted by cell, without places; zero on entry up to kNmsPadding behind the segment's size
};

// Boxes of one group in index order, padded like those above with scores of minus infinity.
struct SoftNmsSegment {
  float* x1;
  float* y1;
  float* x2;
  float* y2;
  float* area;
  float* score;
  int64_t* place;  // what is written for a chosen box
  int64_t size;
};

constexpr int64_t kNmsPadding = 16;
constexpr int kLinePadding = 32;  // two of the widest vectors

// Matrix products c += a * b. Buffers of a and c hold a multiple of kGemmRowMultiple rows, those of b and c whole panels.
constexpr int64_t kGemmRowMultiple = 8;

template <typename A>
struct GemmLoops {
  int64_t panel_columns;
  // b[k, n] with these strides into panels.
  void (*pack)(const A* b, int64_t stride_k, int64_t stride_n, int64_t k, int64_t n, A* packed);
  void (*multiply)(const A* a, int64_t stride_row, int64_t stride_k, const A* packed, int64_t m, int64_t n, int64_t k,
                   A* c, int64_t stride_c);
};

template <typename A>
struct DeformTap {
  BilinearTap<A> tap;
  A mask;
};

template <typename T>
struct DeformLoops {
  using A = accumulator_t<T>;
  void (*gather)(const T* image, int64_t cell_stride, const DeformTap<A>* taps, int64_t rows, int64_t channels,
                 A* columns, int64_t row_stride);
  void (*scatter)(const T* image, A* image_gradient, int64_t cell_stride, const DeformTap<A>* taps, int64_t rows,
                  int64_t channels, const A* gradient, A* columns, int64_t row_stride, A* dots);
};

// The level of each sample of one query or of one head of it; arrays of `size`, padded to a multiple of kSamplePadding.
constexpr int64_t kSamplePadding = 16;  // lanes of the widest vector

template <typename A>
struct AttentionGrid {
  const A* width;
  const A* height;
  const integer_t<A>* start;  // the level's first cell
  int64_t size;
};

// Which neighbours of a sample lie on the map; 0 for a sample that counts nothing.
constexpr int kLeftSide = 1, kRightSide = 2, kUpperSide = 4, kLowerSide = 8;

// The cells and weights of samples, arrays of the grid's padded size; corners are (upper, left), (upper, right),
// (lower, left), (lower, right).
template <typename A>
struct AttentionTaps {
  integer_t<A>* cell[4];
  A* weight[4];
  A* x_fraction;
  A* y_fraction;
  integer_t<A>* sides;
};

template <typename T>
struct AttentionLoops {
  using A = accumulator_t<T>;
  // out[c] for the samples [begin, end) of one head, whose channels in cell 0 `value` points to.
  void (*attend)(const T* value, int64_t cell_stride, int64_t channels, const AttentionTaps<A>& taps, int64_t begin,
                 int64_t end, T* out);
  // Adds to value_gradient and writes each sample's products of the gradient with its cells, dots[corner][sample].
  void (*scatter)(const T* value, A* value_gradient, int64_t cell_stride, int64_t channels,
                  const AttentionTaps<A>& taps, int64_t size, const A* gradient, A* const dots[4]);
};

template <typename A>
struct AttentionSampleLoops {
  void (*locate)(const A* locations, const A* attention, const AttentionGrid<A>& grid, const AttentionTaps<A>& taps);
  // From the dots: the gradients of the samples' locations and weights.
  void (*slopes)(const AttentionGrid<A>& grid, const AttentionTaps<A>& taps, const A* attention, const A* const dots[4],
                 A* location_gradient, A* attention_gradient);
};

// Candidates of an assignment, one array per coordinate.
constexpr int64_t kAssignBlock = 256;

struct AssignBlock {
  const float* x1;
  const float* y1;
  const float* x2;
  const float* y2;
  const float* area;
};

struct AssignObject {
  float x1;
  float y1;
  float x2;
  float y2;
  float area;
};

// Writes where values above a bound stand in a row; see dense_postprocess.inl.
template <typename T>
using FindAbove = int64_t (*)(const T* values, int64_t size, float bound, int64_t room, uint32_t* found,
                              int64_t* scanned);
// Blocks of logits of being wrong and of factors; `count` is a multiple of every vector's lanes.
template <typename A>
struct FocalLoops {
  // out = factor * loss; returns the sum.
  A (*values)(const A* logits, const A* factors, int64_t count, A gamma, A* out);
  // out = factor * slope of the loss in the logit of being wrong.
  void (*slopes)(const A* logits, const A* factors, int64_t count, A gamma, A* out);
};

// Blocks of boxes, one array of `block` values per coordinate, one after the other; `count` is a multiple of the lanes.
constexpr int64_t kBoxBlock = 128;

template <typename A>
struct BoxIouLoops {
  // out[i] = the overlap of one box [4] with box i.
  void (*row)(Overlap kind, const A* box, const A* boxes, int64_t count, A eps, A* out);
  void (*pairs)(Overlap kind, const A* first, const A* second, int64_t count, A eps, A* out);
  void (*pair_slopes)(Overlap kind, const A* first, const A* second, const A* grad, int64_t count, A eps,
                      A* first_slopes, A* second_slopes);
};

template <typename T>
struct RaiseMaximumLoop {
  // best[c] and chosen[c] of one sample for channels that lie innermost.
  void (*raise)(const T* image, const SampleTaps<accumulator_t<T>>& taps, int64_t channels, int32_t number, bool first,
                accumulator_t<T>* best, int32_t* chosen);
};

// A rectangle of cells in a map; strides in elements.
struct CellRectangle {
  int64_t rows;
  int64_t columns;
  int64_t stride_y;
  int64_t stride_x;
  int32_t number;  // of the first cell; cells are counted along a map's rows
  int32_t width;   // of the map
};

template <typename T>
struct LargestCellLoop {
  // largest[c] and its number of at least one cell, for channels that lie innermost from `cells` on.
  void (*largest)(const T* cells, const CellRectangle& rectangle, int64_t channels, T* largest, int32_t* number);
};

template <typename T>
struct WidenLoop {
  void (*widen)(const T* from, int64_t count, accumulator_t<T>* to);
  void (*narrow)(const accumulator_t<T>* from, int64_t count, T* to);
};

// A value of each type whose sums are float or double.
template <template <typename> class Loops>
struct ByFeature {
  Loops<float> of_float;
  Loops<Half> of_half;
  Loops<BFloat16> of_bfloat16;
  Loops<double> of_double;

  template <typename T>
  const Loops<T>& get() const {
    if constexpr (std::is_same_v<T, float>) return of_float;
    else if constexpr (std::is_same_v<T, Half>) return of_half;
    else if constexpr (std::is_same_v<T, BFloat16>) return of_bfloat16;
    else return of_double;
  }
};

template <template <typename> class Loops>
struct ByAccumulator {
  Loops<float> of_float;
  Loops<double> of_double;

  template <typename A>
  const Loops<A>& get() const {
    if constexpr (std::is_same_v<A, float>) return of_float;
    else return of_double;
  }
};

struct CpuKernels {
  const char* name;
  // Greedy NMS of one group: writes the kept positions in order, returns how many; stops at max_output.
  int64_t (*nms_segment)(const NmsSegment& segment, float threshold, int64_t max_output, int64_t* kept);
  // The same through a grid, whose arrays it fills.
  int64_t (*nms_in_grid)(const NmsSegment& segment, const NmsGrid& grid, float threshold, int64_t max_output,
                         int64_t* kept);
  ByFeature<RoiAlignLoops> roi_align;
  ByAccumulator<RoiAlignGradientLoops> roi_align_gradient;
  ByAccumulator<GemmLoops> gemm;
  ByFeature<DeformLoops> deform;
  // Raises best[i] and sets index[i] to `number` where the object overlaps more; returns the block's largest IoU.
  float (*assign_best)(const AssignBlock& block, const AssignObject& object, int32_t number, float* best,
                       int32_t* index);
  // Sets index[i] to `number` where the IoU is exactly `wanted`.
  void (*assign_equal)(const AssignBlock& block, const AssignObject& object, int32_t number, float wanted,
                       int32_t* index);
  ByFeature<AttentionLoops> attention;
  ByAccumulator<AttentionSampleLoops> attention_samples;
  FindAbove<float> find_above;
  FindAbove<Half> find_above_half;
  FindAbove<BFloat16> find_above_bfloat16;
  ByAccumulator<FocalLoops> focal_loss;
  ByFeature<WidenLoop> widen;
  ByAccumulator<BoxIouLoops> box_iou;
  // Soft-NMS of one group: writes the places and final scores of the chosen boxes, returns how many.
  int64_t (*soft_nms_segment)(const SoftNmsSegment& segment, const SoftNmsRule& rule, int64_t max_output, int64_t* kept,
                              float* kept_scores);
  // Boxes in score order; `dead` holds -1 on entry and then each box's owner.
  void (*nms_match)(const NmsSegment& segment, float threshold);
  // out[i] = whether a blend of two rows, which hold whole vectors, reaches the threshold.
  void (*paste_row)(const float* upper, const float* lower, float upper_weight, float lower_weight, float threshold,
                    int64_t count, uint8_t* out);
  ByFeature<RaiseMaximumLoop> raise_maximum;
  ByFeature<LargestCellLoop> largest_cell;
};

// The widest set that this processor runs. FASTDET_CPU=baseline|avx2|avx512 asks for a narrower one.
const CpuKernels& cpu_kernels();

}  // namespace fastdet
