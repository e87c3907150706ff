// The NMS kernel against the greedy rule written plainly.
#include <algorithm>
#include <limits>
#include <numeric>

#include "kernels/boxes.h"
#include "kernels/nms.h"
#include "testing.h"

namespace {

struct Case {
  std::vector<float> boxes, scores;
  std::vector<int64_t> groups;
  std::vector<char> valid;
  int64_t batch, size;
};

Case random_case(int64_t batch, int64_t size, uint64_t seed) {
  testing::Random random(seed);
  Case c{{}, {}, {}, {}, batch, size};
  for (int64_t i = 0; i < batch * size; ++i) {
    const float x = random.uniform() * 100 - 50, y = random.uniform() * 100 - 50;
    c.boxes.insert(c.boxes.end(), {x, y, x + random.uniform() * 40, y + random.uniform() * 40});
    c.scores.push_back(std::floor(random.uniform() * 20));
    c.groups.push_back(static_cast<int64_t>(random.uniform() * 4) - 2);
    c.valid.push_back(random.uniform() > 0.2f);
  }
  return c;
}

std::vector<int64_t> greedy(const Case& c, int64_t image, float threshold, bool with_groups, bool with_valid) {
  const int64_t at = image * c.size;
  std::vector<int64_t> order(c.size), kept;
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return c.scores[at + a] > c.scores[at + b]; });
  for (const int64_t i : order) {
    if (with_valid && !c.valid[at + i]) continue;
    const float* a = &c.boxes[(at + i) * 4];
    const bool dead = std::any_of(kept.begin(), kept.end(), [&](int64_t j) {
      if (with_groups && c.groups[at + i] != c.groups[at + j]) return false;
      const float* b = &c.boxes[(at + j) * 4];
      const float inter = fastdet::intersection(b[0], b[1], b[2], b[3], a[0], a[1], a[2], a[3]);
      return fastdet::iou_exceeds(inter, fastdet::box_area(b[0], b[1], b[2], b[3]),
                                  fastdet::box_area(a[0], a[1], a[2], a[3]), threshold);
    });
    if (!dead) kept.push_back(i);
  }
  return kept;
}

void equals_the_greedy_rule() {
  for (const int64_t size : {0, 1, 2, 15, 16, 17, 255, 256, 257, 700}) {
    const Case c = random_case(2, size, static_cast<uint64_t>(size));
    for (const int64_t slots : {int64_t{0}, int64_t{3}, size}) {
      for (int option = 0; option < 4; ++option) {
        const bool with_groups = option % 2 != 0, with_valid = option / 2 != 0;
        const fastdet::NmsInput input{c.boxes.data(),
                                      c.scores.data(),
                                      with_groups ? c.groups.data() : nullptr,
                                      with_valid ? reinterpret_cast<const bool*>(c.valid.data()) : nullptr,
                                      c.batch,
                                      c.size,
                                      0.4f};
        std::vector<int64_t> kept(c.batch * slots, -1), counts(c.batch, -1);
        fastdet::nms_cpu(input, slots, kept.data(), counts.data(), testing::run_on_two_threads);
        for (int64_t b = 0; b < c.batch; ++b) {
          std::vector<int64_t> expected = greedy(c, b, 0.4f, with_groups, with_valid);
          expected.resize(std::min<size_t>(expected.size(), static_cast<size_t>(slots)));
          EXPECT(counts[b] == static_cast<int64_t>(expected.size()));
          expected.resize(slots, 0);
          EXPECT(std::equal(expected.begin(), expected.end(), kept.begin() + b * slots));
        }
      }
    }
  }
}

// Enough boxes for a grid, in every state that a box can be in.
Case large_case(int64_t size, uint64_t seed, float scale) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  testing::Random random(seed);
  Case c{{}, {}, {}, {}, 1, size};
  for (int64_t i = 0; i < size; ++i) {
    const float x = (random.uniform() * 200 - 100) * scale, y = (random.uniform() * 80 - 40) * scale;
    const float longest = random.uniform() < 0.05f ? 150 : 20;
    float box[4] = {x, y, x + (random.uniform() * longest - 1) * scale, y + (random.uniform() * longest - 1) * scale};
    const float fate = random.uniform();
    if (fate < 0.02f) box[static_cast<int>(random.uniform() * 3.99f)] = std::numeric_limits<float>::quiet_NaN();
    else if (fate < 0.03f) box[2] = kInfinity;
    else if (fate < 0.04f) box[1] = -kInfinity;
    else if (fate < 0.05f) box[3] = box[1];
    else if (fate < 0.2f && i > 0) std::copy_n(c.boxes.end() - 4, 4, box);
    c.boxes.insert(c.boxes.end(), box, box + 4);
    c.scores.push_back(std::floor(random.uniform() * 500));
  }
  return c;
}

void a_grid_changes_nothing() {
  uint64_t seed = 0;
  for (const int64_t size : {512, 529, 2000}) {
    for (const float scale : {1.0f, 1e-3f, 1e6f, 1e-24f, 1e17f, 1e25f}) {
      for (const float threshold : {0.0f, 0.1f, 0.5f, 0.7f, 1.0f}) {
        const Case c = large_case(size, ++seed, scale);
        const fastdet::NmsInput input{c.boxes.data(), c.scores.data(), nullptr, nullptr, 1, size, threshold};
        std::vector<int64_t> kept(size);
        int64_t count = 0;
        fastdet::nms_cpu(input, size, kept.data(), &count, testing::run_on_two_threads);
        kept.resize(count);
        EXPECT(kept == greedy(c, 0, threshold, false, false));
        fastdet::nms_cpu(input, 40, kept.data(), &count, testing::run_on_two_threads);
        EXPECT(count == std::min<int64_t>(40, static_cast<int64_t>(kept.size())));
      }
    }
  }
}

void boxes_in_one_place_need_no_grid() {
  for (const float side : {0.0f, 1e-30f, 3.0f}) {
    std::vector<float> boxes, scores(600, 1.0f);
    for (int i = 0; i < 600; ++i) boxes.insert(boxes.end(), {5.0f, 5.0f, 5.0f + side, 5.0f + side});
    std::vector<int64_t> kept(600);
    int64_t count = 0;
    fastdet::nms_cpu({boxes.data(), scores.data(), nullptr, nullptr, 1, 600, 0.5f}, 600, kept.data(), &count,
                     testing::run_on_two_threads);
    EXPECT(count == (side == 3.0f ? 1 : 600));
  }
}

void score_keys_sort_descending_with_nan_last() {
  const float infinity = std::numeric_limits<float>::infinity();
  const float scores[] = {infinity, 3.0f,  1e-40f,    0.0f,
                          -1e-40f,  -2.0f, -infinity, std::numeric_limits<float>::quiet_NaN()};
  for (size_t i = 0; i + 1 < std::size(scores); ++i) {
    EXPECT(fastdet::score_key(scores[i]) < fastdet::score_key(scores[i + 1]));
  }
  EXPECT(fastdet::score_key(0.0f) == fastdet::score_key(-0.0f));
  EXPECT(fastdet::score_key(scores[7]) < fastdet::kInvalidScoreKey);
}

}  // namespace

int main() {
  equals_the_greedy_rule();
  a_grid_changes_nothing();
  boxes_in_one_place_need_no_grid();
  score_keys_sort_descending_with_nan_last();
  return testing::report();
}
