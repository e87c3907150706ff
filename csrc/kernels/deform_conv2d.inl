// Columns of a deformable convolution and their gradient, channels innermost. Included by loops.inl.

namespace fastdet {
inline namespace FASTDET_ISA {

// columns[row, c] = mask * sample, for the channels that share the taps' offsets.
template <typename T>
inline void gather_columns(const T* image, int64_t cell_stride, const DeformTap<accumulator_t<T>>* taps, int64_t rows,
                           int64_t channels, accumulator_t<T>* columns, int64_t row_stride) {
  using A = accumulator_t<T>;
  using V = vector_t<A>;
  constexpr int64_t lanes = kLanes<A>;
  for (int64_t row = 0; row < rows; ++row, columns += row_stride) {
    const BilinearTap<A>& tap = taps[row].tap;
    if (!tap.inside) {
      for (int64_t c = 0; c < channels; ++c) columns[c] = A(0);
      continue;
    }
    const T* cells[4];
    A weights[4];
    V factors[4];
    for (int corner = 0; corner < 4; ++corner) {
      cells[corner] = image + tap.cell[corner] * cell_stride;
      weights[corner] = tap.weight[corner] * taps[row].mask;
      factors[corner] = splat(weights[corner]);
    }
    int64_t c = 0;
    for (; c + lanes <= channels; c += lanes) {
      V sum = factors[0] * V(load(cells[0] + c));
      for (int corner = 1; corner < 4; ++corner) {
        sum = multiply_add(factors[corner], V(load(cells[corner] + c)), sum);
      }
      store<A>(columns + c, sum);
    }
    for (; c < channels; ++c) {
      A sum = A(0);
      for (int corner = 0; corner < 4; ++corner) sum += weights[corner] * widen(cells[corner][c]);
      columns[c] = sum;
    }
  }
}

// From the gradient of the columns: the columns again (for the weights), the gradient of the input, and for each row
// the products of the gradient with the four cells, dots[row, 4] (for mask and offset).
template <typename T>
inline void scatter_columns(const T* image, accumulator_t<T>* image_gradient, int64_t cell_stride,
                            const DeformTap<accumulator_t<T>>* taps, int64_t rows, int64_t channels,
                            const accumulator_t<T>* gradient, accumulator_t<T>* columns, int64_t row_stride,
                            accumulator_t<T>* dots) {
  using A = accumulator_t<T>;
  using V = vector_t<A>;
  constexpr int64_t lanes = kLanes<A>;
  for (int64_t row = 0; row < rows; ++row, columns += row_stride, gradient += row_stride, dots += 4) {
    const BilinearTap<A>& tap = taps[row].tap;
    if (!tap.inside) {
      for (int64_t c = 0; c < channels; ++c) columns[c] = A(0);
      for (int corner = 0; corner < 4; ++corner) dots[corner] = A(0);
      continue;
    }
    V dot[4] = {};
    A dot_tail[4] = {A(0), A(0), A(0), A(0)};
    A weights[4];
    for (int corner = 0; corner < 4; ++corner) weights[corner] = tap.weight[corner] * taps[row].mask;
    int64_t c = 0;
    for (; c + lanes <= channels; c += lanes) {
      const V slope = load(gradient + c);
      V sum = V{};
      for (int corner = 0; corner < 4; ++corner) {
        const int64_t at = tap.cell[corner] * cell_stride + c;
        const V value = load(image + at);
        const V factor = splat(weights[corner]);
        dot[corner] = multiply_add(slope, value, dot[corner]);
        sum = multiply_add(factor, value, sum);
        if (tap.valid[corner]) {
          store<A>(image_gradient + at, multiply_add(factor, slope, load(image_gradient + at)));
        }
      }
      store<A>(columns + c, sum);
    }
    for (; c < channels; ++c) {
      A sum = A(0);
      for (int corner = 0; corner < 4; ++corner) {
        const int64_t at = tap.cell[corner] * cell_stride + c;
        const A value = widen(image[at]);
        dot_tail[corner] += gradient[c] * value;
        sum += weights[corner] * value;
        if (tap.valid[corner]) image_gradient[at] += weights[corner] * gradient[c];
      }
      columns[c] = sum;
    }
    for (int corner = 0; corner < 4; ++corner) {
      A total = dot_tail[corner];
      for (int64_t lane = 0; lane < lanes; ++lane) total += dot[corner][lane];
      dots[corner] = total;
    }
  }
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
