// Where deformable convolution and deformable attention sample a map, shared by the CPU and CUDA twins.
#pragma once

#include <cmath>

#include "common.h"

namespace fastdet {

// Four cells of a map, as y * width + x, clamped to it, with bilinear weights that are 0 for cells outside.
template <typename A>
struct BilinearTap {
  int64_t cell[4];  // (low, low), (low, high), (high, low), (high, high) as (y, x)
  A weight[4];
  A y_fraction;
  A x_fraction;
  bool inside;  // whether any cell counts; false for a coordinate that is not a number
  bool valid[4];  // whether each cell lies on the map
};

// The sample and its derivatives, from one value a cell.
template <typename A>
struct TapValue {
  A value;
  A y_slope;
  A x_slope;
};

inline namespace FASTDET_ISA {

template <typename A>
FASTDET_HD BilinearTap<A> bilinear_tap(A y, A x, int64_t height, int64_t width) {
  BilinearTap<A> tap{};
  tap.inside = y > A(-1) && y < A(height) && x > A(-1) && x < A(width);
  if (!tap.inside) return tap;
  const A y_floor = floor(y);
  const A x_floor = floor(x);
  const int64_t y_low = static_cast<int64_t>(y_floor);
  const int64_t x_low = static_cast<int64_t>(x_floor);
  tap.y_fraction = y - y_floor;
  tap.x_fraction = x - x_floor;
  for (int corner = 0; corner < 4; ++corner) {
    const int64_t cell_y = y_low + corner / 2;
    const int64_t cell_x = x_low + corner % 2;
    tap.valid[corner] = cell_y >= 0 && cell_y < height && cell_x >= 0 && cell_x < width;
    const int64_t clamped_y = cell_y < 0 ? 0 : (cell_y < height ? cell_y : height - 1);
    const int64_t clamped_x = cell_x < 0 ? 0 : (cell_x < width ? cell_x : width - 1);
    tap.cell[corner] = clamped_y * width + clamped_x;
    const A y_weight = corner / 2 == 0 ? A(1) - tap.y_fraction : tap.y_fraction;
    const A x_weight = corner % 2 == 0 ? A(1) - tap.x_fraction : tap.x_fraction;
    tap.weight[corner] = tap.valid[corner] ? y_weight * x_weight : A(0);
  }
  return tap;
}

template <typename A>
FASTDET_HD TapValue<A> tap_value(const BilinearTap<A>& tap, const A cells[4]) {
  A at[4];
  for (int corner = 0; corner < 4; ++corner) at[corner] = tap.valid[corner] ? cells[corner] : A(0);
  const A value =
      tap.weight[0] * at[0] + tap.weight[1] * at[1] + tap.weight[2] * at[2] + tap.weight[3] * at[3];
  const A y_slope = (A(1) - tap.x_fraction) * (at[2] - at[0]) + tap.x_fraction * (at[3] - at[1]);
  const A x_slope = (A(1) - tap.y_fraction) * (at[1] - at[0]) + tap.y_fraction * (at[3] - at[2]);
  return {value, y_slope, x_slope};
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
