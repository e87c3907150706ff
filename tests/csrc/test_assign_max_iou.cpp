// The assignment kernel against the rule on the matrix of all pairs.
#include "kernels/assign_max_iou.h"

#include <algorithm>

#include "testing.h"

namespace {

float iou_of(const float* a, const float* b) {
  const float width = std::max(0.0f, std::min(a[2], b[2]) - std::max(a[0], b[0]));
  const float height = std::max(0.0f, std::min(a[3], b[3]) - std::max(a[1], b[1]));
  const float shared = width * height;
  return shared / std::max((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared, 1e-6f);
}

std::vector<float> boxes_of(int64_t count, testing::Random& random) {
  std::vector<float> boxes;
  for (int64_t i = 0; i < count; ++i) {
    const float x = std::floor(random.uniform() * 30), y = std::floor(random.uniform() * 30);
    boxes.insert(boxes.end(), {x, y, x + 1 + std::floor(random.uniform() * 9), y + 1 + std::floor(random.uniform() * 9)});
  }
  return boxes;
}

void equals_the_rule(int64_t size, int64_t objects, bool all_ties) {
  testing::Random random(static_cast<uint64_t>(size + objects));
  const std::vector<float> boxes = boxes_of(size, random), targets = boxes_of(2 * objects, random);
  std::vector<char> valid(2 * objects), candidates(2 * size);
  for (char& flag : valid) flag = random.uniform() > 0.2f;
  for (char& flag : candidates) flag = random.uniform() > 0.1f;
  std::vector<int64_t> index(2 * size, 99);
  std::vector<float> iou(2 * size, 99);
  const fastdet::AssignMaxIouArgs args{boxes.data(), true, targets.data(), reinterpret_cast<const bool*>(valid.data()),
                                       reinterpret_cast<const bool*>(candidates.data()), nullptr, 2, size, objects,
                                       0.5f, 0.0f, 0.4f, 0.2f, true, all_ties, index.data(), iou.data()};
  fastdet::assign_max_iou_cpu(args, testing::run_on_two_threads);
  for (int64_t b = 0; b < 2; ++b) {
    std::vector<int64_t> wanted(size, fastdet::kIgnored);
    bool any = false;
    for (int64_t m = 0; m < objects; ++m) any = any || valid[b * objects + m];
    for (int64_t p = 0; p < size; ++p) {
      if (!candidates[b * size + p]) continue;
      float best = any ? -1.0f : 0.0f;
      int64_t chosen = 0;
      for (int64_t m = 0; m < objects; ++m) {
        const float value = iou_of(&targets[(b * objects + m) * 4], &boxes[p * 4]);
        if (valid[b * objects + m] && value > best) best = value, chosen = m;
      }
      wanted[p] = any && best >= 0.5f ? chosen : (best < 0.4f ? fastdet::kBackground : fastdet::kIgnored);
      EXPECT(iou[b * size + p] == best);
    }
    for (int64_t m = 0; m < objects; ++m) {
      if (!valid[b * objects + m]) continue;
      float most = 0.0f;
      for (int64_t p = 0; p < size; ++p) {
        if (candidates[b * size + p]) most = std::max(most, iou_of(&targets[(b * objects + m) * 4], &boxes[p * 4]));
      }
      for (int64_t p = 0; p < size && most >= 0.2f; ++p) {
        if (!candidates[b * size + p] || iou_of(&targets[(b * objects + m) * 4], &boxes[p * 4]) != most) continue;
        wanted[p] = m;
        if (!all_ties) break;
      }
    }
    EXPECT(std::equal(wanted.begin(), wanted.end(), index.begin() + b * size));
  }
}

}  // namespace

int main() {
  for (const int64_t size : {1, 255, 256, 257, 1000}) {
    for (const int64_t objects : {0, 1, 3, 9}) {
      equals_the_rule(size, objects, true);
      equals_the_rule(size, objects, false);
    }
  }
  return testing::report();
}
