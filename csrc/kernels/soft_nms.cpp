// Soft-NMS on the CPU: each group alone, in vectors, then the groups' results merged by score.
#include "soft_nms.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <queue>
#include <tuple>

#include "cpu_kernels.h"
#include "segments.h"

namespace fastdet {
namespace {

constexpr int kNumColumns = 6;

// The boxes of each group, one array per coordinate, padded with boxes that are out of play.
class Groups {
 public:
  Groups(const float* boxes, const float* scores, const std::vector<int64_t>& order, const Segments& segments)
      : segments_(segments) {
    const size_t num_segments = segments.starts.size() - 1;
    int64_t total = 0;
    for (size_t s = 0; s < num_segments; ++s) {
      offsets_.push_back(total);
      total += (segments.starts[s + 1] - segments.starts[s] + kNmsPadding - 1) / kNmsPadding * kNmsPadding;
    }
    for (std::vector<float>& column : columns_) column.resize(total);
    std::fill(columns_[5].begin(), columns_[5].end(), -std::numeric_limits<float>::infinity());
    places_.resize(total);
    for (size_t s = 0; s < num_segments; ++s) {
      int64_t to = offsets_[s];
      for (int64_t i = segments.starts[s]; i < segments.starts[s + 1]; ++i, ++to) {
        const int64_t index = order[segments.ranks[i]];
        const float* box = boxes + index * 4;
        for (int k = 0; k < 4; ++k) columns_[k][to] = box[k];
        columns_[4][to] = box_area(box[0], box[1], box[2], box[3]);
        columns_[5][to] = scores[index];
        places_[to] = index;
      }
    }
  }

  SoftNmsSegment segment(int64_t index) {
    const int64_t at = offsets_[index];
    return {&columns_[0][at], &columns_[1][at], &columns_[2][at], &columns_[3][at],
            &columns_[4][at], &columns_[5][at], &places_[at],     segments_.starts[index + 1] - segments_.starts[index]};
  }

 private:
  const Segments& segments_;
  std::array<std::vector<float>, kNumColumns> columns_;
  std::vector<int64_t> places_;
  std::vector<int64_t> offsets_;
};

struct Chosen {
  std::vector<int64_t> index;
  std::vector<float> score;
};

// Heads of the groups' lists by score, ties by index: what one list of all groups would choose next.
int64_t merge(const std::vector<Chosen>& groups, int64_t max_output, int64_t* kept, float* scores) {
  using Head = std::tuple<float, int64_t, size_t, size_t>;  // score, -index, group, place
  std::priority_queue<Head> heads;
  const auto push = [&](size_t group, size_t place) {
    if (place < groups[group].index.size()) {
      heads.emplace(groups[group].score[place], -groups[group].index[place], group, place);
    }
  };
  for (size_t g = 0; g < groups.size(); ++g) push(g, 0);
  int64_t count = 0;
  while (!heads.empty() && count < max_output) {
    const auto [score, negated, group, place] = heads.top();
    heads.pop();
    kept[count] = -negated;
    scores[count++] = score;
    push(group, place + 1);
  }
  return count;
}

int64_t best_of_all(const float* scores, const std::vector<int64_t>& order) {
  int64_t best = -1;
  for (const int64_t i : order) {
    if (scores[i] > (best < 0 ? -std::numeric_limits<float>::infinity() : scores[best])) best = i;
  }
  return best;
}

// Segments that one thread should take at least: every chosen box looks at the others, about a nanosecond each.
int64_t segments_per_task(const Segments& segments, int64_t max_output) {
  const int64_t num_segments = static_cast<int64_t>(segments.starts.size()) - 1;
  double nanoseconds = 1.0;
  for (int64_t s = 0; s < num_segments; ++s) {
    const int64_t size = segments.starts[s + 1] - segments.starts[s];
    nanoseconds += static_cast<double>(size) * static_cast<double>(std::min(size, max_output)) / 2.0;
  }
  const double share = std::min(1.0, static_cast<double>(kMinTaskNanoseconds) / nanoseconds);
  return std::max<int64_t>(1, static_cast<int64_t>(share * static_cast<double>(num_segments)));
}

int64_t soft_nms_image(const NmsInput& input, int64_t image, const SoftNmsRule& rule, int64_t max_output, int64_t* kept,
                       float* kept_scores, ParallelRunner run) {
  const int64_t at = image * input.size;
  const float* scores = input.scores + at;
  std::vector<int64_t> order;
  for (int64_t i = 0; i < input.size; ++i) {
    if (input.valid == nullptr || input.valid[at + i]) order.push_back(i);
  }
  if (order.empty() || max_output == 0) return 0;
  const Segments segments = split_by_group(order, input.groups == nullptr ? nullptr : input.groups + at);
  const int64_t num_segments = static_cast<int64_t>(segments.starts.size()) - 1;
  Groups groups(input.boxes + at * 4, scores, order, segments);
  std::vector<Chosen> chosen(num_segments);
  const CpuKernels& kernels = cpu_kernels();
  parallel_for(run, num_segments, segments_per_task(segments, max_output), [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      const SoftNmsSegment segment = groups.segment(s);
      const int64_t limit = std::min(max_output, segment.size);
      chosen[s].index.resize(limit);
      chosen[s].score.resize(limit);
      const int64_t count =
          kernels.soft_nms_segment(segment, rule, limit, chosen[s].index.data(), chosen[s].score.data());
      chosen[s].index.resize(count);
      chosen[s].score.resize(count);
    }
  });
  const int64_t count = merge(chosen, max_output, kept, kept_scores);
  if (count > 0) return count;
  const int64_t best = best_of_all(scores, order);
  if (best < 0) return 0;
  kept[0] = best;
  kept_scores[0] = scores[best];
  return 1;
}

}  // namespace

void soft_nms_cpu(const NmsInput& input, const SoftNmsRule& rule, const SoftNmsOutput& output, ParallelRunner run) {
  for (int64_t b = 0; b < input.batch; ++b) {
    int64_t* kept = output.kept + b * output.max_output;
    float* scores = output.scores + b * output.max_output;
    const int64_t count = soft_nms_image(input, b, rule, output.max_output, kept, scores, run);
    std::fill(kept + count, kept + output.max_output, int64_t{0});
    std::fill(scores + count, scores + output.max_output, 0.0f);
    output.counts[b] = count;
  }
}

void nms_match_cpu(const float* boxes, int64_t size, float threshold, int64_t* owners) {
  const int64_t padded = (size + kNmsPadding - 1) / kNmsPadding * kNmsPadding;
  std::array<std::vector<float>, 5> columns;
  for (std::vector<float>& column : columns) column.resize(padded);
  std::vector<int32_t> found(padded, -1);
  for (int64_t i = 0; i < size; ++i) {
    const float* box = boxes + i * 4;
    for (int k = 0; k < 4; ++k) columns[k][i] = box[k];
    columns[4][i] = box_area(box[0], box[1], box[2], box[3]);
  }
  const NmsSegment segment{columns[0].data(), columns[1].data(), columns[2].data(), columns[3].data(),
                           columns[4].data(), nullptr,           found.data(),      size};
  cpu_kernels().nms_match(segment, threshold);
  std::copy_n(found.begin(), size, owners);
}

}  // namespace fastdet
