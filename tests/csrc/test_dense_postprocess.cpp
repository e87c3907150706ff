// Dense post-processing against a sort of all candidates, on one thread and on two.
#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/dense_postprocess.h"
#include "testing.h"

namespace {

using fastdet::DensePostprocessArgs;

struct Result {
  std::vector<float> boxes;
  std::vector<float> scores;
  std::vector<int64_t> labels;
  std::vector<int64_t> counts;
};

struct Scene {
  std::vector<float> logits;
  std::vector<float> codes;
  std::vector<float> priors;
  std::vector<float> sizes;
  DensePostprocessArgs args{};
};

// Two images with two levels of priors that do not overlap, and distances that keep it so.
Scene scene(int64_t first, int64_t second, int64_t classes, int64_t limit, float threshold) {
  testing::Random random(static_cast<uint64_t>(first * 7 + second + classes));
  Scene s;
  const int64_t total = first + second;
  for (int64_t p = 0; p < total; ++p) {
    const float x = static_cast<float>(p) * 10.0f;
    for (const float side : {x, 0.0f, x + 8.0f, 8.0f}) s.priors.push_back(side);
  }
  for (int64_t i = 0; i < 2 * total * classes; ++i) s.logits.push_back(std::floor(random.uniform() * 16.0f) - 12.0f);
  for (int64_t i = 0; i < 2 * total * 4; ++i) s.codes.push_back(1.0f + random.uniform());
  s.sizes = {8.0f, 1e7f, 8.0f, 1e7f};
  DensePostprocessArgs& args = s.args;
  args.batch = 2;
  args.num_priors = total;
  args.num_classes = classes;
  args.image_sizes = s.sizes.data();
  args.code.code = fastdet::BoxCode::kDistance;
  args.code.numbers = 4;
  args.code.clips = true;
  args.levels[1].first = first;
  args.lengths[0] = first;
  args.lengths[1] = second;
  args.num_levels = 2;
  args.limit = limit;
  args.score_threshold = threshold;
  args.min_size = -1.0f;
  args.rivals = fastdet::Rivals::kSameClass;
  args.iou_threshold = 0.5f;
  args.max_output = 50;
  return s;
}

Result run(Scene& s, fastdet::ParallelRunner runner) {
  const size_t slots = static_cast<size_t>(s.args.batch * s.args.max_output);
  Result r{std::vector<float>(slots * 4, -1.0f), std::vector<float>(slots, -1.0f), std::vector<int64_t>(slots, -1),
           std::vector<int64_t>(s.args.batch, -1)};
  s.args.logits = s.logits.data();
  s.args.codes = s.codes.data();
  s.args.priors = s.priors.data();
  s.args.boxes = r.boxes.data();
  s.args.scores = r.scores.data();
  s.args.labels = r.labels.data();
  s.args.counts = r.counts.data();
  fastdet::dense_postprocess_cpu(s.args, runner);
  return r;
}

// Candidates by score, equal ones by level and pair; nothing overlaps, so that NMS takes the first of them.
void equals_a_sort(int64_t first, int64_t second, int64_t classes, int64_t limit, float threshold) {
  Scene s = scene(first, second, classes, limit, threshold);
  const Result serial = run(s, fastdet::run_serially);
  const Result threads = run(s, testing::run_on_two_threads);
  EXPECT(serial.boxes == threads.boxes && serial.scores == threads.scores);
  EXPECT(serial.labels == threads.labels && serial.counts == threads.counts);
  for (int64_t image = 0; image < 2; ++image) {
    std::vector<int64_t> taken;  // pairs of the image
    for (int level = 0; level < 2; ++level) {
      const float* logits = s.logits.data() + image * (first + second) * classes;
      const int64_t begin = s.args.levels[level].first * classes;
      std::vector<int64_t> pairs;
      for (int64_t i = 0; i < s.args.lengths[level] * classes; ++i) {
        if (fastdet::sigmoid(logits[begin + i]) > threshold) pairs.push_back(begin + i);
      }
      const auto better = [&](int64_t a, int64_t b) { return logits[a] > logits[b]; };
      std::stable_sort(pairs.begin(), pairs.end(), better);
      if (limit > 0 && static_cast<int64_t>(pairs.size()) > limit) pairs.resize(limit);
      std::sort(pairs.begin(), pairs.end());
      taken.insert(taken.end(), pairs.begin(), pairs.end());
    }
    const float* logits = s.logits.data() + image * (first + second) * classes;
    std::stable_sort(taken.begin(), taken.end(), [&](int64_t a, int64_t b) { return logits[a] > logits[b]; });
    const int64_t count = std::min<int64_t>(s.args.max_output, static_cast<int64_t>(taken.size()));
    EXPECT(serial.counts[image] == count);
    for (int64_t k = 0; k < s.args.max_output; ++k) {
      const int64_t slot = image * s.args.max_output + k;
      EXPECT(serial.labels[slot] == (k < count ? taken[k] % classes : 0));
      EXPECT(serial.scores[slot] == (k < count ? fastdet::sigmoid(logits[taken[k]]) : 0.0f));
      EXPECT(k < count || serial.boxes[slot * 4 + 2] == 0.0f);
    }
  }
}

void logits_that_are_no_numbers_are_no_candidates() {
  Scene s = scene(40, 3, 2, 5, -1.0f);
  std::fill(s.logits.begin(), s.logits.begin() + 86, std::numeric_limits<float>::quiet_NaN());
  std::fill(s.logits.begin() + 86, s.logits.end(), -std::numeric_limits<float>::infinity());
  const Result result = run(s, fastdet::run_serially);
  EXPECT(result.counts[0] == 0 && result.counts[1] == 0);
}

}  // namespace

int main() {
  for (const int64_t first : {0, 1, 63, 64, 65, 3000}) {
    for (const int64_t limit : {-1, 1, 7, 100}) {
      equals_a_sort(first, 1, 3, limit, -1.0f);
      equals_a_sort(first, 33, 1, limit, 0.3f);
    }
  }
  logits_that_are_no_numbers_are_no_candidates();
  return testing::report();
}
