// Where RoIAlign samples and with what weights, shared by the CPU and CUDA twins.
//
// Source: He et al., "Mask R-CNN" (ICCV 2017), section 3; the half-pixel shift is `aligned` of Detectron2's RoIAlign.
// A is the type of coordinates and sums: float, or double for double features.
#pragma once

#include <cmath>

#include "common.h"

namespace fastdet {
inline namespace FASTDET_ISA {

// The two cells that a coordinate falls between, with their weights. Outside [-1, size] both weights are 0; inside,
// the coordinate is clamped to the cells.
template <typename A>
struct AxisSample {
  int low;
  int high;
  A low_weight;
  A high_weight;
};

template <typename A>
FASTDET_HD AxisSample<A> axis_sample(A position, int size) {
  if (!(position >= A(-1) && position <= A(size))) return {0, 0, A(0), A(0)};
  if (position <= A(0)) position = A(0);
  int low = static_cast<int>(position);
  int high = low + 1;
  if (low >= size - 1) {
    low = high = size - 1;
    position = A(low);
  }
  const A fraction = position - A(low);
  return {low, high, A(1) - fraction, fraction};
}

// One axis of a RoI on a feature map: bins start at start + p * bin, each with `grid` samples in its middle.
template <typename A>
struct RoiAxis {
  A start;
  A bin;
  int64_t grid;
};

// More samples than this along a bin lie beyond any map; the bound keeps integers small.
constexpr int64_t kMaxGrid = int64_t{1} << 30;

template <typename A>
FASTDET_HD RoiAxis<A> roi_axis(A low, A high, A scale, int64_t bins, int64_t sampling_ratio, bool aligned) {
  const A offset = aligned ? A(0.5) : A(0);
  const A start = exact_add(exact_mul(low, scale), -offset);
  const A end = exact_add(exact_mul(high, scale), -offset);
  A length = end - start;
  if (!aligned) length = larger(length, A(1));
  RoiAxis<A> axis{start, length / A(bins), sampling_ratio};
  // A coordinate that is not finite, or whose size is not, samples nothing.
  if (!(start - start == A(0)) || !(axis.bin - axis.bin == A(0))) return {A(0), A(0), 0};
  if (sampling_ratio <= 0) {
    const A wanted = ceil(axis.bin);
    axis.grid = wanted <= A(0) ? 0 : (wanted >= A(kMaxGrid) ? kMaxGrid : static_cast<int64_t>(wanted));
  }
  return axis;
}

template <typename A>
FASTDET_HD A sample_position(const RoiAxis<A>& axis, int64_t bin, int64_t index) {
  const A inside = exact_mul(A(index) + A(0.5), axis.bin) / A(axis.grid);
  return exact_add(exact_add(axis.start, exact_mul(A(bin), axis.bin)), inside);
}

struct SampleRange {
  int64_t begin;
  int64_t end;
};

// The samples of a bin that can lie in [from, to], widened by a few: what lies outside costs nothing however large
// the RoI is.
template <typename A>
FASTDET_HD SampleRange samples_between(const RoiAxis<A>& axis, int64_t bin, double from, double to) {
  constexpr int64_t kFewSamples = 16;
  if (axis.grid <= kFewSamples || !(axis.bin > A(0))) return {0, axis.grid};
  const double step = static_cast<double>(axis.bin) / static_cast<double>(axis.grid);
  const double start = static_cast<double>(axis.start) + static_cast<double>(bin) * static_cast<double>(axis.bin);
  const double first = (from - start) / step - 3.0;
  const double last = (to - start) / step + 3.0;
  const double grid = static_cast<double>(axis.grid);
  const double begin = first < 0.0 ? 0.0 : (first > grid ? grid : first);
  const double end = last < 0.0 ? 0.0 : (last > grid ? grid : last);
  return {static_cast<int64_t>(begin), static_cast<int64_t>(end)};
}

// The weight that one bin gives one cell of the axis, summed over the bin's samples.
template <typename A>
FASTDET_HD A bin_weight(const RoiAxis<A>& axis, int64_t bin, int cell, int size) {
  const SampleRange range = samples_between(axis, bin, cell - 1.0, cell + 1.0);
  A weight = A(0);
  for (int64_t i = range.begin; i < range.end; ++i) {
    const AxisSample<A> sample = axis_sample(sample_position(axis, bin, i), size);
    if (sample.low == cell) weight += sample.low_weight;
    if (sample.high == cell) weight += sample.high_weight;
  }
  return weight;
}

// How many samples a bin averages over; 1 for an empty RoI, whose sum is 0.
template <typename A>
FASTDET_HD A sample_count(const RoiAxis<A>& y, const RoiAxis<A>& x) {
  return y.grid > 0 && x.grid > 0 ? A(y.grid) * A(x.grid) : A(1);
}

// The pyramid level of a box: floor(log2(sqrt(width * height) / finest_scale + 1e-6)) clamped to [0, levels), the
// rule of Lin et al., "Feature Pyramid Networks" (CVPR 2017), eq. 1, in MMDetection's form. Written with comparisons,
// so that no logarithm rounds differently on another device; a NaN box is level 0.
template <typename A>
FASTDET_HD int pyramid_level(A x1, A y1, A x2, A y2, A finest_scale, int levels) {
  const A size = exact_add(A(sqrt(exact_mul(x2 - x1, y2 - y1))) / finest_scale, A(1e-6));
  int level = 0;
  for (A bound = A(2); level + 1 < levels && size >= bound; bound *= A(2)) ++level;
  return level;
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
