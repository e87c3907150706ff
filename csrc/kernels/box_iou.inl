// Overlaps of blocks of boxes. Included by loops.inl.

namespace fastdet {
inline namespace FASTDET_ISA {

template <typename A>
inline PairBox<vector_t<A>> load_boxes(const A* block, int64_t at) {
  return {load(block + at), load(block + kBoxBlock + at), load(block + 2 * kBoxBlock + at),
          load(block + 3 * kBoxBlock + at)};
}

template <typename A>
inline void store_boxes(A* block, int64_t at, const PairBox<vector_t<A>>& boxes) {
  store<A>(block + at, boxes.x1);
  store<A>(block + kBoxBlock + at, boxes.y1);
  store<A>(block + 2 * kBoxBlock + at, boxes.x2);
  store<A>(block + 3 * kBoxBlock + at, boxes.y2);
}

template <Overlap kKind, typename A>
inline void overlap_row_of(const A* box, const A* boxes, int64_t count, A eps, A* out) {
  const PairBox<vector_t<A>> first{splat(box[0]), splat(box[1]), splat(box[2]), splat(box[3])};
  for (int64_t i = 0; i < count; i += kLanes<A>) {
    store<A>(out + i, pair_value<kKind>(first, load_boxes(boxes, i), eps));
  }
}

template <typename A>
inline void overlap_row(Overlap kind, const A* box, const A* boxes, int64_t count, A eps, A* out) {
  if (kind == Overlap::kIou) overlap_row_of<Overlap::kIou>(box, boxes, count, eps, out);
  else if (kind == Overlap::kGiou) overlap_row_of<Overlap::kGiou>(box, boxes, count, eps, out);
  else overlap_row_of<Overlap::kIof>(box, boxes, count, eps, out);
}

template <Overlap kKind, typename A>
inline void overlap_pairs_of(const A* first, const A* second, int64_t count, A eps, A* out) {
  for (int64_t i = 0; i < count; i += kLanes<A>) {
    store<A>(out + i, pair_value<kKind>(load_boxes(first, i), load_boxes(second, i), eps));
  }
}

template <typename A>
inline void overlap_pairs(Overlap kind, const A* first, const A* second, int64_t count, A eps, A* out) {
  if (kind == Overlap::kIou) overlap_pairs_of<Overlap::kIou>(first, second, count, eps, out);
  else if (kind == Overlap::kGiou) overlap_pairs_of<Overlap::kGiou>(first, second, count, eps, out);
  else if (kind == Overlap::kDiou) overlap_pairs_of<Overlap::kDiou>(first, second, count, eps, out);
  else overlap_pairs_of<Overlap::kCiou>(first, second, count, eps, out);
}

template <Overlap kKind, typename A>
inline void overlap_slopes_of(const A* first, const A* second, const A* grad, int64_t count, A eps, A* first_slopes,
                              A* second_slopes) {
  for (int64_t i = 0; i < count; i += kLanes<A>) {
    PairBox<vector_t<A>> of_first, of_second;
    pair_slopes<kKind>(load_boxes(first, i), load_boxes(second, i), eps, load(grad + i), of_first, of_second);
    store_boxes(first_slopes, i, of_first);
    store_boxes(second_slopes, i, of_second);
  }
}

template <typename A>
inline void overlap_slopes(Overlap kind, const A* first, const A* second, const A* grad, int64_t count, A eps,
                           A* first_slopes, A* second_slopes) {
  auto* slopes = &overlap_slopes_of<Overlap::kCiou, A>;
  if (kind == Overlap::kIou) slopes = &overlap_slopes_of<Overlap::kIou, A>;
  else if (kind == Overlap::kGiou) slopes = &overlap_slopes_of<Overlap::kGiou, A>;
  else if (kind == Overlap::kDiou) slopes = &overlap_slopes_of<Overlap::kDiou, A>;
  slopes(first, second, grad, count, eps, first_slopes, second_slopes);
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
