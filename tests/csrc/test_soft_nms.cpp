// Soft-NMS and matches against the rule written plainly.
#include <algorithm>

#include "kernels/soft_nms.h"
#include "testing.h"

namespace {

struct Case {
  std::vector<float> boxes, scores;
  std::vector<int64_t> groups;
};

Case random_case(int64_t size, uint64_t seed) {
  testing::Random random(seed);
  Case c;
  for (int64_t i = 0; i < size; ++i) {
    const float x = random.uniform() * 60, y = random.uniform() * 60;
    c.boxes.insert(c.boxes.end(), {x, y, x + random.uniform() * 40, y + random.uniform() * 40});
    c.scores.push_back(random.uniform());
    c.groups.push_back(static_cast<int64_t>(random.uniform() * 3) - 1);
  }
  return c;
}

float area_of(const float* box) { return fastdet::box_area(box[0], box[1], box[2], box[3]); }

float shared_by(const float* a, const float* b) {
  return fastdet::intersection(a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]);
}

void equals_the_rule() {
  for (const int64_t size : {0, 1, 15, 16, 17, 300}) {
    for (const fastdet::SoftNmsMethod method :
         {fastdet::SoftNmsMethod::kNaive, fastdet::SoftNmsMethod::kLinear, fastdet::SoftNmsMethod::kGaussian}) {
      for (const bool grouped : {false, true}) {
        const Case c = random_case(size, static_cast<uint64_t>(size) + 1);
        const fastdet::NmsInput input{c.boxes.data(), c.scores.data(), grouped ? c.groups.data() : nullptr, nullptr, 1,
                                      size,           0.0f};
        const fastdet::SoftNmsRule rule{method, 0.3f, 0.5f, 0.05f};
        std::vector<int64_t> kept(size, -1), wanted;
        std::vector<float> scores(size, -1.0f), left = c.scores, wanted_scores;
        int64_t count = -1;
        fastdet::soft_nms_cpu(input, rule, {size, kept.data(), scores.data(), &count}, testing::run_on_two_threads);
        while (true) {
          const auto best = std::max_element(left.begin(), left.end());
          if (best == left.end() || *best < rule.min_score) break;
          const int64_t chosen = best - left.begin();
          wanted.push_back(chosen);
          wanted_scores.push_back(*best);
          *best = -1.0f;
          for (int64_t i = 0; i < size; ++i) {
            if (left[i] < 0 || (grouped && c.groups[i] != c.groups[chosen])) continue;
            const float* a = &c.boxes[chosen * 4];
            const float* b = &c.boxes[i * 4];
            left[i] = fastdet::softened(rule, left[i], shared_by(a, b), area_of(a), area_of(b));
          }
        }
        EXPECT(count == static_cast<int64_t>(wanted.size()));
        for (int64_t i = 0; i < std::min<int64_t>(count, static_cast<int64_t>(wanted.size())); ++i) {
          EXPECT(kept[i] == wanted[i]);
          EXPECT(std::abs(scores[i] - wanted_scores[i]) < 1e-5f);
        }
      }
    }
  }
}

void every_box_has_the_first_owner_that_reaches_it() {
  for (const int64_t size : {0, 1, 16, 17, 200}) {
    const Case c = random_case(size, static_cast<uint64_t>(size) + 7);
    std::vector<int64_t> owners(size, -1), wanted(size, -1);
    fastdet::nms_match_cpu(c.boxes.data(), size, 0.4f, owners.data());
    for (int64_t i = 0; i < size; ++i) {
      if (wanted[i] >= 0) continue;
      wanted[i] = i;
      for (int64_t j = i + 1; j < size; ++j) {
        const float* a = &c.boxes[i * 4];
        const float* b = &c.boxes[j * 4];
        if (wanted[j] < 0 && fastdet::iou_reaches(shared_by(a, b), area_of(a), area_of(b), 0.4f)) wanted[j] = i;
      }
    }
    EXPECT(owners == wanted);
  }
}

}  // namespace

int main() {
  equals_the_rule();
  every_box_has_the_first_owner_that_reaches_it();
  return testing::report();
}
