// One block of candidates against all objects. Included by loops.inl.

namespace fastdet {
inline namespace FASTDET_ISA {

inline vector_t<float> block_iou(const AssignBlock& block, int64_t at, const AssignObject& object) {
  using F = vector_t<float>;
  const F inter =
      intersection(splat(object.x1), splat(object.y1), splat(object.x2), splat(object.y2), load(block.x1 + at),
                   load(block.y1 + at), load(block.x2 + at), load(block.y2 + at));
  return assigned_iou(inter, splat(object.area), load(block.area + at));
}

inline float assign_best(const AssignBlock& block, const AssignObject& object, int32_t number, float* best,
                         int32_t* index) {
  using F = vector_t<float>;
  using I = vector_t<int32_t>;
  F most = F{};
  for (int64_t i = 0; i < kAssignBlock; i += kLanes<float>) {
    const F iou = block_iou(block, i, object);
    const F before = load(best + i);
    const auto better = iou > before;
    store<float>(best + i, better ? iou : before);
    store<int32_t>(index + i, better ? I{} + number : load(index + i));
    most = iou > most ? iou : most;
  }
  float result = most[0];
  for (int lane = 1; lane < kLanes<float>; ++lane) result = most[lane] > result ? most[lane] : result;
  return result;
}

inline void assign_equal(const AssignBlock& block, const AssignObject& object, int32_t number, float wanted,
                         int32_t* index) {
  using I = vector_t<int32_t>;
  for (int64_t i = 0; i < kAssignBlock; i += kLanes<float>) {
    const auto equal = block_iou(block, i, object) == splat(wanted);
    store<int32_t>(index + i, equal ? I{} + number : load(index + i));
  }
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
