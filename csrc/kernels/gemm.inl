// A small matrix product: c += a * b with b packed in panels. Included by loops.inl.

namespace fastdet {
inline namespace FASTDET_ISA {

// Rows of one step: with two vectors of columns, twice as many sums as the processor has registers for half of them.
#if FASTDET_VECTOR_BYTES == 64
constexpr int kStepRows = 8;
#else
constexpr int kStepRows = 4;
#endif

template <typename A>
constexpr int kPanelColumns = 2 * kLanes<A>;

// b[k, n] as panels of kPanelColumns columns, [panel, k, column], zeros behind the last column.
template <typename A>
inline void pack_panels(const A* b, int64_t stride_k, int64_t stride_n, int64_t k, int64_t n, A* packed) {
  constexpr int64_t width = kPanelColumns<A>;
  for (int64_t from = 0; from < n; from += width) {
    const int64_t used = n - from < width ? n - from : width;
    for (int64_t j = 0; j < used; ++j) {  // reads along the dimension of b whose elements lie closer
      const A* column = b + (from + j) * stride_n;
      for (int64_t i = 0; stride_k <= stride_n && i < k; ++i) packed[i * width + j] = column[i * stride_k];
    }
    for (int64_t i = 0; i < k; ++i, packed += width) {
      const A* row = b + i * stride_k + from * stride_n;
      for (int64_t j = 0; stride_n < stride_k && j < used; ++j) packed[j] = row[j * stride_n];
      for (int64_t j = used; j < width; ++j) packed[j] = A(0);
    }
  }
}

// kStepRows rows of one panel, sums in registers.
template <typename A>
inline void multiply_step(const A* a, int64_t stride_row, int64_t stride_k, const A* panel, int64_t k, A* c,
                          int64_t stride_c) {
  using V = vector_t<A>;
  V low[kStepRows], high[kStepRows];
#pragma GCC unroll 8
  for (int r = 0; r < kStepRows; ++r) {
    low[r] = load(c + r * stride_c);
    high[r] = load(c + r * stride_c + kLanes<A>);
  }
  for (int64_t i = 0; i < k; ++i, panel += kPanelColumns<A>) {
    const V left = load(panel);
    const V right = load(panel + kLanes<A>);
#pragma GCC unroll 8
    for (int r = 0; r < kStepRows; ++r) {
      const V factor = splat(a[r * stride_row + i * stride_k]);
      low[r] = multiply_add(factor, left, low[r]);
      high[r] = multiply_add(factor, right, high[r]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kStepRows; ++r) {
    store<A>(c + r * stride_c, low[r]);
    store<A>(c + r * stride_c + kLanes<A>, high[r]);
  }
}

// c[m, n] += a[m, k] * b[k, n]. Reads and writes m rounded up to kGemmRowMultiple rows and n rounded up to whole
// panels; what lies in the extra rows of a only reaches extra rows of c.
template <typename A>
inline void multiply_packed(const A* a, int64_t stride_row, int64_t stride_k, const A* packed, int64_t m, int64_t n,
                            int64_t k, A* c, int64_t stride_c) {
  constexpr int64_t kDepth = 128;  // a panel of this depth and the rows it meets stay in the first-level cache
  constexpr int64_t width = kPanelColumns<A>;
  static_assert(kGemmRowMultiple % kStepRows == 0, "buffers are rounded up for every instruction set");
  for (int64_t from = 0; from < k; from += kDepth) {
    const int64_t depth = k - from < kDepth ? k - from : kDepth;
    for (int64_t column = 0; column < n; column += width) {
      const A* panel = packed + column * k + from * width;
      for (int64_t row = 0; row < m; row += kStepRows) {
        multiply_step(a + row * stride_row + from * stride_k, stride_row, stride_k, panel, depth,
                      c + row * stride_c + column, stride_c);
      }
    }
  }
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
