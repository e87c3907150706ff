// How boxes overlap: matrices of all pairs, and the value and slope of pairs. A is float or double.
//
// Sources: Rezatofighi et al., "Generalized Intersection over Union" (CVPR 2019), algorithm 2; Zheng et al.,
// "Distance-IoU Loss" (AAAI 2020), equation 7, and "Enhancing Geometric Factors" (2021), equations 10 to 12.
#pragma once

#include <cmath>

#include "boxes.h"

namespace fastdet {

enum class Overlap : int { kIou, kGiou, kDiou, kCiou, kIof };

struct BoxIouArgs {
  DType dtype;         // kFloat32 or kFloat64
  const void* first;   // [batch, rows, 4] xyxy
  const void* second;  // [batch or 1, columns, 4]
  bool shared_second;  // the images share it
  int64_t batch;
  int64_t rows;
  int64_t columns;
  Overlap kind;  // kIou, kGiou or kIof
  double eps;    // smallest denominator
  void* values;  // [batch, rows, columns]
};

struct PairedBoxIouArgs {
  DType dtype;
  const void* first;   // [count, 4]
  const void* second;  // [count, 4]
  int64_t count;
  Overlap kind;  // any but kIof
  double eps;
  void* values;             // [count], of the forward pass
  const void* grad;         // [count], of the backward pass
  void* first_gradient;   // [count, 4]
  void* second_gradient;  // [count, 4]
};

void box_iou_cpu(const BoxIouArgs& args, ParallelRunner run);
void paired_box_iou_cpu(const PairedBoxIouArgs& args, ParallelRunner run);
void paired_box_iou_backward_cpu(const PairedBoxIouArgs& args, ParallelRunner run);

// The same on a device; cudaError_t.
int box_iou_cuda(const BoxIouArgs& args, void* stream);
int paired_box_iou_cuda(const PairedBoxIouArgs& args, void* stream);
int paired_box_iou_backward_cuda(const PairedBoxIouArgs& args, void* stream);

inline namespace FASTDET_ISA {

FASTDET_HD float arctangent(float x) { return atan(x); }
FASTDET_HD double arctangent(double x) { return atan(x); }

// V is A or a vector of A.
template <typename V>
struct PairBox {
  V x1, y1, x2, y2;
};

// The quantities that values and slopes share; those that a kind does not need are dropped by the compiler.
template <typename V>
struct PairTerms {
  V width, height;        // of the shared box, not clamped
  V shared;               // area
  V area_a, area_b;       // not clamped, as in MMDetection
  V raw_union, joint;     // the union before and after the lower bound
  V iou;
  V outer_w, outer_h;     // of the enclosing box, not clamped
  V outer;                // area
  V shift_x, shift_y;     // of the centres
  V diagonal;             // squared, of the enclosing box
  V distance;             // squared distance of the centres over the squared diagonal
  V angle_gap;            // arctangent of b's proportions minus that of a
  V shape;                // squared gap, scaled to [0, 1]
  V trade_off;            // what the shape is worth, a constant in the gradient
};

template <typename V>
FASTDET_HD V clamp_at_zero(V value) {
  return larger(V{}, value);  // NaN stays NaN
}

template <Overlap kKind, typename V, typename A>
FASTDET_HD PairTerms<V> pair_terms(const PairBox<V>& a, const PairBox<V>& b, A eps) {
  const V least = V{} + eps;
  PairTerms<V> t{};
  t.width = smaller(a.x2, b.x2) - larger(a.x1, b.x1);
  t.height = smaller(a.y2, b.y2) - larger(a.y1, b.y1);
  t.shared = exact_mul(clamp_at_zero(t.width), clamp_at_zero(t.height));
  t.area_a = exact_mul(a.x2 - a.x1, a.y2 - a.y1);
  t.area_b = exact_mul(b.x2 - b.x1, b.y2 - b.y1);
  t.raw_union = exact_add(exact_add(t.area_a, t.area_b), -t.shared);
  t.joint = larger(least, t.raw_union);
  t.iou = t.shared / t.joint;
  if constexpr (kKind == Overlap::kIou || kKind == Overlap::kIof) return t;
  t.outer_w = larger(a.x2, b.x2) - smaller(a.x1, b.x1);
  t.outer_h = larger(a.y2, b.y2) - smaller(a.y1, b.y1);
  const V outer_w = clamp_at_zero(t.outer_w), outer_h = clamp_at_zero(t.outer_h);
  t.outer = outer_w * outer_h;
  if constexpr (kKind == Overlap::kGiou) return t;
  const V half = V{} + A(0.5);
  t.shift_x = (a.x1 + a.x2) * half - (b.x1 + b.x2) * half;
  t.shift_y = (a.y1 + a.y2) * half - (b.y1 + b.y2) * half;
  t.diagonal = outer_w * outer_w + outer_h * outer_h + least;
  t.distance = (t.shift_x * t.shift_x + t.shift_y * t.shift_y) / t.diagonal;
  if constexpr (kKind == Overlap::kDiou) return t;
  constexpr double kPi = 3.14159265358979323846;
  const V scale = V{} + A(4.0 / (kPi * kPi)), one = V{} + A(1);
  t.angle_gap = arctangent((b.x2 - b.x1) / (b.y2 - b.y1 + least)) - arctangent((a.x2 - a.x1) / (a.y2 - a.y1 + least));
  t.shape = scale * t.angle_gap * t.angle_gap;
  t.trade_off = t.iou > half ? t.shape / larger(least, one - t.iou + t.shape) : V{};
  return t;
}

template <Overlap kKind, typename V, typename A>
FASTDET_HD V pair_value(const PairBox<V>& a, const PairBox<V>& b, A eps) {
  const PairTerms<V> t = pair_terms<kKind>(a, b, eps);
  if constexpr (kKind == Overlap::kIof) return t.shared / larger(V{} + eps, t.area_a);
  if constexpr (kKind == Overlap::kIou) return t.iou;
  if constexpr (kKind == Overlap::kGiou) {
    const V outer = larger(V{} + eps, t.outer);
    return t.iou - (outer - t.joint) / outer;
  }
  if constexpr (kKind == Overlap::kDiou) return t.iou - t.distance;
  return t.iou - t.distance - t.trade_off * t.shape;
}

// How much of the slope of max(a, b) a has: all, none, or half where they are equal, as torch has it.
template <typename V, typename A>
FASTDET_HD V share_of_maximum(V a, V b, A) {
  return a > b ? V{} + A(1) : (a == b ? V{} + A(0.5) : V{});
}

// Adds the slopes of one axis: `inner` in the shared length, `outer` in the enclosing one, `own_a` and `own_b` in the
// boxes' own lengths, `shift` in both ends of a, and against those of b.
template <typename V, typename A>
FASTDET_HD void axis_slopes(V a1, V a2, V b1, V b2, V inner, V outer, V own_a, V own_b, V shift, A one, V& of_a1,
                            V& of_a2, V& of_b1, V& of_b2) {
  const V whole = V{} + one;
  const V low_a = share_of_maximum(a1, b1, one), high_a = share_of_maximum(a2, b2, one);
  const V low_b = whole - low_a, high_b = whole - high_a;
  of_a1 = shift - own_a - inner * low_a - outer * low_b;
  of_a2 = shift + own_a + inner * high_b + outer * high_a;
  of_b1 = -shift - own_b - inner * low_b - outer * low_a;
  of_b2 = -shift + own_b + inner * high_a + outer * high_b;
}

template <Overlap kKind, typename V, typename A>
FASTDET_HD void pair_slopes(const PairBox<V>& a, const PairBox<V>& b, A eps, V grad, PairBox<V>& of_a, PairBox<V>& of_b) {
  const PairTerms<V> t = pair_terms<kKind>(a, b, eps);
  const V zero = V{}, least = zero + eps, two = zero + A(2);
  // Slopes in the areas; a bound that is active has none.
  V in_joint = -t.iou / t.joint;
  const V in_shared_alone = (zero + A(1)) / t.joint;
  V in_outer_w = zero, in_outer_h = zero, in_shift_x = zero, in_shift_y = zero;
  V angle_a_w = zero, angle_a_h = zero, angle_b_w = zero, angle_b_h = zero;
  if constexpr (kKind == Overlap::kGiou) {
    const V outer = larger(least, t.outer);
    in_joint += (zero + A(1)) / outer;
    const V in_outer = t.outer >= least ? -t.joint / (outer * outer) : zero;
    in_outer_w = in_outer * clamp_at_zero(t.outer_h);
    in_outer_h = in_outer * clamp_at_zero(t.outer_w);
  }
  if constexpr (kKind == Overlap::kDiou || kKind == Overlap::kCiou) {
    in_shift_x = -t.shift_x / t.diagonal;  // half of the slope: each end moves the centre by half
    in_shift_y = -t.shift_y / t.diagonal;
    in_outer_w = two * t.distance / t.diagonal * clamp_at_zero(t.outer_w);
    in_outer_h = two * t.distance / t.diagonal * clamp_at_zero(t.outer_h);
  }
  if constexpr (kKind == Overlap::kCiou) {
    constexpr double kPi = 3.14159265358979323846;
    const V in_gap = -t.trade_off * (zero + A(8.0 / (kPi * kPi))) * t.angle_gap;
    const V a_w = a.x2 - a.x1, a_h = a.y2 - a.y1 + least, b_w = b.x2 - b.x1, b_h = b.y2 - b.y1 + least;
    const V a_square = a_w * a_w + a_h * a_h, b_square = b_w * b_w + b_h * b_h;
    angle_a_w = -in_gap * a_h / a_square;
    angle_a_h = in_gap * a_w / a_square;
    angle_b_w = in_gap * b_h / b_square;
    angle_b_h = -in_gap * b_w / b_square;
  }
  in_joint = t.raw_union >= least ? in_joint : zero;
  const V in_shared = in_shared_alone - in_joint;
  const V inner_w = t.width >= zero ? grad * in_shared * clamp_at_zero(t.height) : zero;
  const V inner_h = t.height >= zero ? grad * in_shared * clamp_at_zero(t.width) : zero;
  const V outer_w = t.outer_w >= zero ? grad * in_outer_w : zero;
  const V outer_h = t.outer_h >= zero ? grad * in_outer_h : zero;
  const V own_a_w = grad * (in_joint * (a.y2 - a.y1) + angle_a_w);
  const V own_a_h = grad * (in_joint * (a.x2 - a.x1) + angle_a_h);
  const V own_b_w = grad * (in_joint * (b.y2 - b.y1) + angle_b_w);
  const V own_b_h = grad * (in_joint * (b.x2 - b.x1) + angle_b_h);
  axis_slopes(a.x1, a.x2, b.x1, b.x2, inner_w, outer_w, own_a_w, own_b_w, grad * in_shift_x, A(1), of_a.x1, of_a.x2,
              of_b.x1, of_b.x2);
  axis_slopes(a.y1, a.y2, b.y1, b.y2, inner_h, outer_h, own_a_h, own_b_h, grad * in_shift_y, A(1), of_a.y1, of_a.y2,
              of_b.y1, of_b.y2);
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
