// RoIAlign and its gradient: channels innermost, and plane by plane. Included by loops.inl.

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

// The weighted sum of rows of a plane for `kVectors` vectors of columns.
template <int kVectors, typename T, typename A>
inline void sum_rows(const T* plane, int64_t stride, const AxisWeights<A>& rows, int first, int last, A* line) {
  using V = vector_t<A>;
  V sum[kVectors] = {};
  for (int i = first; i < last; ++i) {
    const T* row = plane + rows.cells[i] * stride;
    const V weight = splat(rows.weights[i]);
    for (int v = 0; v < kVectors; ++v) sum[v] = multiply_add(weight, V(load(row + v * kLanes<A>)), sum[v]);
  }
  for (int v = 0; v < kVectors; ++v) store<A>(line + v * kLanes<A>, sum[v]);
}

// Rows are summed first, into one line of the columns in use, and the line is then summed into bins, a vector of them
// at a time: the weights are products, so that both cost vector operations even though a channel's cells lie far from
// the next channel's. Whole vectors are read past the columns in use where that stays before `end`. The same rows of
// the plane `ahead` are asked for meanwhile: most lie on pages of their own, where no processor looks by itself.
template <typename T>
inline void forward_plane(const T* plane, const T* end, int64_t ahead, ImageStrides strides,
                          const RoiPlane<accumulator_t<T>>& roi, accumulator_t<T>* line, T* out, int64_t out_stride) {
  using A = accumulator_t<T>;
  using V = vector_t<A>;
  constexpr int lanes = kLanes<A>;
  constexpr int64_t kLineCells = 64 / static_cast<int64_t>(sizeof(T));  // of the cache
  const bool is_short = roi.x_end - roi.x_begin <= kShortLine<A>;
  const V count = splat(roi.count);
  for (int64_t ph = 0; ph < roi.out_h; ++ph) {
    const int first = roi.y.begin[ph], last = roi.y.begin[ph + 1];
    bool whole = strides.x == 1;
    for (int i = first; i < last; ++i) {
      const T* row = plane + roi.y.cells[i] * strides.y;
      whole = whole && end - (row + roi.x_end) >= lanes;
      for (int64_t x = roi.x_begin; ahead != 0 && x < roi.x_end; x += kLineCells) __builtin_prefetch(row + ahead + x);
      if (ahead != 0) __builtin_prefetch(row + ahead + roi.x_end - 1);
    }
    if (whole) {
      int x = roi.x_begin;
      for (; x + lanes < roi.x_end; x += 2 * lanes) {
        sum_rows<2>(plane + x, strides.y, roi.y, first, last, line + (x - roi.x_begin));
      }
      if (x < roi.x_end) sum_rows<1>(plane + x, strides.y, roi.y, first, last, line + (x - roi.x_begin));
    } else {
      for (int x = roi.x_begin; x < roi.x_end; ++x) {
        A sum = A(0);
        for (int i = first; i < last; ++i) {
          sum += roi.y.weights[i] * widen(plane[roi.y.cells[i] * strides.y + x * strides.x]);
        }
        line[x - roi.x_begin] = sum;
      }
    }
    for (int64_t pw = 0; pw < roi.out_w; pw += lanes) {
      const mask_t<A> number = load_mask<A>(roi.x.numbers + pw);
      V sum = V{};
      for (int k = 0; k < roi.x.most; ++k) {
        const int64_t at = k * roi.x.padded + pw;
        const mask_t<A> cell = load_mask<A>(roi.x.cells + at);
        const V value = is_short ? gather_short(line, cell) : gather(line, cell);
        sum = number > k ? multiply_add(load(roi.x.weights + at), value, sum) : sum;
      }
      const int64_t bins = roi.out_w - pw < lanes ? roi.out_w - pw : lanes;
      if (out_stride == 1) {
        store_first(out, sum / count, bins);
      } else {
        T pooled[lanes];
        store<T>(pooled, sum / count);
        for (int64_t bin = 0; bin < bins; ++bin) out[bin * out_stride] = pooled[bin];
      }
      out += bins * out_stride;
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

}  // namespace FASTDET_ISA
}  // namespace fastdet
