// Soft-NMS of one group and matches of one list of boxes. Included by loops.inl.

namespace fastdet {
inline namespace FASTDET_ISA {

constexpr float kOutOfPlay = -__builtin_inff();  // the score of boxes that are taken or left out

struct BestScore {
  float score;
  int64_t index;
};

// The largest score of each lane, and where it first is. No member has an initial value: the compiler would write the
// constructor outside of the region that is compiled for this instruction set.
struct BestLanes {
  vector_t<float> score;
  vector_t<int32_t> index;
};

inline BestLanes no_scores() { return {splat(kOutOfPlay), vector_t<int32_t>{}}; }

inline BestLanes with_scores(const BestLanes& seen, vector_t<float> scores, vector_t<int32_t> places) {
  const auto better = scores > seen.score;
  return {better ? scores : seen.score, better ? places : seen.index};
}

// Of equal scores the one with the lowest index.
inline BestScore best_of(const BestLanes& seen) {
  BestScore best{seen.score[0], seen.index[0]};
  for (int lane = 1; lane < kLanes<float>; ++lane) {
    const float score = seen.score[lane];
    const int64_t index = seen.index[lane];
    if (score > best.score || (score == best.score && index < best.index)) best = {score, index};
  }
  return best;
}

inline vector_t<int32_t> first_places() {
  vector_t<int32_t> places{};
  for (int lane = 0; lane < kLanes<float>; ++lane) places[lane] = lane;
  return places;
}

template <SoftNmsMethod kMethod>
inline vector_t<float> softened_scores(const SoftNmsRule& rule, vector_t<float> scores, vector_t<float> overlap) {
  using F = vector_t<float>;
  if constexpr (kMethod == SoftNmsMethod::kGaussian) {
    return overlap > F{} ? scores * exp_of_negative(-(overlap * overlap) / splat(rule.sigma)) : scores;
  }
  const F left = kMethod == SoftNmsMethod::kNaive ? F{} : scores * (splat(1.0f) - overlap);
  return overlap >= splat(rule.iou_threshold) ? left : scores;
}

// Moves the boxes that are in play to the front, in order; returns how many.
inline int64_t drop_out_of_play(const SoftNmsSegment& segment, int64_t size) {
  const SoftNmsSegment s = segment;
  int64_t to = 0;
  for (int64_t j = 0; j < size; ++j) {
    const int64_t stays = s.score[j] > kOutOfPlay;
    s.x1[to] = s.x1[j];
    s.y1[to] = s.y1[j];
    s.x2[to] = s.x2[j];
    s.y2[to] = s.y2[j];
    s.area[to] = s.area[j];
    s.place[to] = s.place[j];
    s.score[to] = s.score[j];
    to += stays;
  }
  for (int64_t j = to; j < size; ++j) s.score[j] = kOutOfPlay;
  return to;
}

template <SoftNmsMethod kMethod>
inline int64_t soft_nms_of(const SoftNmsSegment& s, const SoftNmsRule& rule, int64_t max_output, int64_t* kept,
                           float* kept_scores) {
  using F = vector_t<float>;
  using I = vector_t<int32_t>;
  constexpr int64_t lanes = kLanes<float>;
  constexpr int64_t kTakenBetweenDrops = 16;
  constexpr int64_t kFewBoxes = 8 * lanes;
  const I step = I{} + static_cast<int32_t>(lanes);
  const F least = splat(rule.min_score), out = splat(kOutOfPlay);
  int64_t size = s.size, count = 0;
  BestLanes seen = no_scores();
  I places = first_places();
  for (int64_t j = 0; j < size; j += lanes, places += step) seen = with_scores(seen, load(s.score + j), places);
  BestScore best = best_of(seen);
  while (count < max_output && best.score >= rule.min_score && best.score > kOutOfPlay) {
    const int64_t i = best.index;
    kept[count] = s.place[i];
    kept_scores[count++] = best.score;
    s.score[i] = kOutOfPlay;
    const F x1 = splat(s.x1[i]), y1 = splat(s.y1[i]), x2 = splat(s.x2[i]), y2 = splat(s.y2[i]), area = splat(s.area[i]);
    seen = no_scores();
    places = first_places();
    for (int64_t j = 0; j < size; j += lanes, places += step) {
      const F inter = intersection(x1, y1, x2, y2, load(s.x1 + j), load(s.y1 + j), load(s.x2 + j), load(s.y2 + j));
      const F overlap = inter / (area + load(s.area + j) - inter);
      const F left = softened_scores<kMethod>(rule, load(s.score + j), overlap);
      const F scores = left >= least ? left : out;
      store<float>(s.score + j, scores);
      seen = with_scores(seen, scores, places);
    }
    best = best_of(seen);
    if (count % kTakenBetweenDrops != 0 || size < kFewBoxes) continue;
    int64_t in_play = 0;
    for (int64_t j = 0; j < size; ++j) in_play += s.score[j] > kOutOfPlay;
    if (in_play >= size - size / 4) continue;
    const int64_t place = s.place[best.index];
    size = drop_out_of_play(s, size);
    for (best.index = 0; best.index < size && s.place[best.index] != place;) ++best.index;
  }
  return count;
}

inline int64_t soft_nms_segment(const SoftNmsSegment& segment, const SoftNmsRule& rule, int64_t max_output,
                                int64_t* kept, float* kept_scores) {
  switch (rule.method) {
    case SoftNmsMethod::kNaive:
      return soft_nms_of<SoftNmsMethod::kNaive>(segment, rule, max_output, kept, kept_scores);
    case SoftNmsMethod::kLinear:
      return soft_nms_of<SoftNmsMethod::kLinear>(segment, rule, max_output, kept, kept_scores);
    case SoftNmsMethod::kGaussian:
      return soft_nms_of<SoftNmsMethod::kGaussian>(segment, rule, max_output, kept, kept_scores);
  }
  return 0;
}

inline void nms_match(const NmsSegment& s, float threshold) {
  using F = vector_t<float>;
  using I = vector_t<int32_t>;
  constexpr int64_t lanes = kLanes<float>;
  const F limit = splat(threshold);
  for (int64_t i = 0; i < s.size; ++i) {
    if (s.dead[i] >= 0) continue;
    s.dead[i] = static_cast<int32_t>(i);
    const F x1 = splat(s.x1[i]), y1 = splat(s.y1[i]), x2 = splat(s.x2[i]), y2 = splat(s.y2[i]), area = splat(s.area[i]);
    // Boxes up to i have owners already.
    for (int64_t j = i / lanes * lanes; j < s.size; j += lanes) {
      const F inter = intersection(x1, y1, x2, y2, load(s.x1 + j), load(s.y1 + j), load(s.x2 + j), load(s.y2 + j));
      const I owners = load(s.dead + j);
      const I mine = iou_reaches(inter, area, load(s.area + j), limit) & (owners < I{});
      store<int32_t>(s.dead + j, mine != I{} ? I{} + static_cast<int32_t>(i) : owners);
    }
  }
}

}  // namespace FASTDET_ISA
}  // namespace fastdet
