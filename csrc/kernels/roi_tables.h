// What the bins of a RoI take from which rows and columns of a map, as tables that all channels share. Included by the
// CPU kernels alone.
#pragma once

#include <algorithm>
#include <vector>

#include "bilinear.h"
#include "cpu_kernels.h"
#include "roi_align.h"

namespace fastdet {

// The cells that each bin of one axis touches, with the weights of its samples merged.
template <typename A>
class AxisTable {
 public:
  void build(const RoiAxis<A>& axis, int64_t bins, int size) {
    begin_.clear();
    cells_.clear();
    weights_.clear();
    for (int64_t bin = 0; bin < bins; ++bin) {
      begin_.push_back(static_cast<int>(cells_.size()));
      const SampleRange range = samples_between(axis, bin, -1.0, static_cast<double>(size));
      for (int64_t i = range.begin; i < range.end; ++i) {
        const AxisSample<A> sample = axis_sample(sample_position(axis, bin, i), size);
        add(sample.low, sample.low_weight);
        add(sample.high, sample.high_weight);
      }
    }
    begin_.push_back(static_cast<int>(cells_.size()));
  }

  AxisWeights<A> weights() const { return {begin_.data(), cells_.data(), weights_.data()}; }

  bool empty() const { return cells_.empty(); }
  int first_cell() const { return *std::min_element(cells_.begin(), cells_.end()); }
  int last_cell() const { return *std::max_element(cells_.begin(), cells_.end()); }

 private:
  // Samples are in order along the axis, so an equal cell of this bin is one of the last two.
  void add(int cell, A weight) {
    if (weight == A(0)) return;
    const size_t first = static_cast<size_t>(begin_.back());
    for (size_t back = 1; back <= 2 && first + back <= cells_.size(); ++back) {
      if (cells_[cells_.size() - back] == cell) {
        weights_[weights_.size() - back] += weight;
        return;
      }
    }
    cells_.push_back(cell);
    weights_.push_back(weight);
  }

  std::vector<int> begin_;
  std::vector<int> cells_;
  std::vector<A> weights_;
};

// An axis' lists side by side, for vectors of bins.
template <typename A>
class BinTable {
 public:
  void build(const AxisWeights<A>& axis, int64_t bins, int first_cell) {
    padded_ = (bins + kBinPadding - 1) / kBinPadding * kBinPadding;
    numbers_.assign(padded_, 0);
    for (int64_t bin = 0; bin < bins; ++bin) numbers_[bin] = axis.begin[bin + 1] - axis.begin[bin];
    most_ = *std::max_element(numbers_.begin(), numbers_.end());
    cells_.assign(most_ * padded_, 0);
    weights_.assign(most_ * padded_, A(0));
    for (int64_t bin = 0; bin < bins; ++bin) {
      for (integer_t<A> k = 0; k < numbers_[bin]; ++k) {
        cells_[k * padded_ + bin] = axis.cells[axis.begin[bin] + k] - first_cell;
        weights_[k * padded_ + bin] = axis.weights[axis.begin[bin] + k];
      }
    }
  }

  BinTaps<A> taps() const { return {cells_.data(), weights_.data(), numbers_.data(), most_, padded_}; }

 private:
  int64_t padded_ = 0;
  integer_t<A> most_ = 0;
  std::vector<integer_t<A>> cells_;
  std::vector<A> weights_;
  std::vector<integer_t<A>> numbers_;
};

template <typename A>
struct RoiTables {
  AxisTable<A> y;
  AxisTable<A> x;
  A count;

  bool empty() const { return y.empty() || x.empty(); }

  RoiWeights<A> weights(const RoiAlignArgs& args) const {
    return {y.weights(), x.weights(), args.out_h, args.out_w, count};
  }
};

}  // namespace fastdet
