// Focal loss of sigmoids with integer labels, forward and backward in one pass each.
//
// Source: Lin et al., "Focal Loss for Dense Object Detection" (ICCV 2017), equation 5. With u the logit of being wrong
// (the logit of a negative, minus that of a positive), q = sigmoid(u) and s = log(1 + exp(u)), the loss is
// factor * q^gamma * s and its slope in u is factor * q^gamma * (gamma * (1 - q) * s + q): no cancellation anywhere.
#pragma once

#include <cmath>

#include "common.h"

namespace fastdet {

struct SigmoidFocalLossArgs {
  DType dtype;            // of the logits
  const void* logits;     // [rows, classes]
  const int64_t* labels;  // [rows]; a number outside of [0, classes) is background
  const void* weight;     // [rows] or [rows, classes], float (double for double logits), or null: ones
  bool weight_per_class;
  int64_t rows;
  int64_t classes;
  double positive;  // factor of positives, alpha
  double negative;
  double gamma;
};

// Elements of weight 0 are 0, whatever their logit is. Sums are made in double of float partial sums, in an order that
// does not depend on the number of threads.
// `loss` [rows, classes] float (double for double logits).
void sigmoid_focal_loss_cpu(const SigmoidFocalLossArgs& args, void* loss, ParallelRunner run);
double sigmoid_focal_loss_sum_cpu(const SigmoidFocalLossArgs& args, ParallelRunner run);
// `slope` [rows, classes] of the logits' type; `grad` holds one number for each element, or one for all.
void sigmoid_focal_loss_backward_cpu(const SigmoidFocalLossArgs& args, const void* grad, bool one_grad, void* slope,
                                     ParallelRunner run);

// The same on a device; cudaError_t. The sum needs a workspace of kFocalPartialSums doubles and writes one float or
// double.
constexpr int64_t kFocalPartialSums = 1024;
int sigmoid_focal_loss_cuda(const SigmoidFocalLossArgs& args, void* loss, void* stream);
int sigmoid_focal_loss_sum_cuda(const SigmoidFocalLossArgs& args, double* partial_sums, void* sum, void* stream);
int sigmoid_focal_loss_backward_cuda(const SigmoidFocalLossArgs& args, const void* grad, bool one_grad, void* slope,
                                     void* stream);

inline namespace FASTDET_ISA {

// Stands for infinity where it meets a 0, so that the product is 0, which is the limit; NaN stays NaN.
template <typename A>
constexpr A kFocalMost = A(1e30);

template <typename A>
struct FocalTerms {
  A wrong;    // q
  A right;    // 1 - q
  A entropy;  // s
  A power;    // q^gamma
};

template <typename A>
FASTDET_HD FocalTerms<A> focal_terms(A u, A gamma) {
  const A e = exp(u < A(0) ? u : -u);
  const A log_term = log1p(e);
  const A near_one = A(1) / (A(1) + e);
  const A near_zero = e * near_one;
  FocalTerms<A> terms;
  terms.wrong = u < A(0) ? near_zero : near_one;
  terms.right = u < A(0) ? near_one : near_zero;
  terms.entropy = (u < A(0) ? A(0) : u) + log_term;
  // log q = min(u, 0) - log(1 + exp(-|u|)), kept finite so that gamma may be 0.
  const A low = u < A(0) ? (u < -kFocalMost<A> ? -kFocalMost<A> : u) : A(0);
  terms.power = gamma == A(2) ? terms.wrong * terms.wrong : exp(gamma * (low - log_term));
  return terms;
}

template <typename A>
FASTDET_HD A focal_value(A u, A gamma) {
  const FocalTerms<A> terms = focal_terms(u, gamma);
  return terms.power * terms.entropy;
}

template <typename A>
FASTDET_HD A focal_slope(A u, A gamma) {
  const FocalTerms<A> terms = focal_terms(u, gamma);
  const A entropy = kFocalMost<A> < terms.entropy ? kFocalMost<A> : terms.entropy;
  return terms.power * (gamma * terms.right * entropy + terms.wrong);
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
