// Suppression and dense post-processing on a GPU against their CPU twins.
#include "cuda_testing.h"
#include "kernels/dense_postprocess.h"
#include "kernels/nms.h"
#include "kernels/soft_nms.h"

namespace {

using testing::boxes_of;
using testing::Device;
using testing::near;
using testing::numbers;
using testing::succeed;

// Scores with ties, so that the order of equals counts.
std::vector<float> tied_scores(int64_t count, uint64_t seed) {
  std::vector<float> scores = numbers(count, seed, 0, 1);
  for (float& score : scores) score = std::floor(score * 200) / 200;
  return scores;
}

const bool* as_bool(const Device<uint8_t>& values) { return reinterpret_cast<const bool*>(values.get()); }

void nms(int64_t size, int64_t most, bool grouped) {
  constexpr int64_t kBatch = 2;
  const std::vector<float> boxes = boxes_of(kBatch * size, 1), scores = tied_scores(kBatch * size, 2);
  std::vector<int64_t> groups(kBatch * size), kept(kBatch * most), counts(kBatch);
  std::vector<uint8_t> valid(groups.size());
  for (size_t i = 0; i < groups.size(); ++i) groups[i] = static_cast<int64_t>(i % 3) - 1, valid[i] = i % 7 != 0;
  fastdet::NmsInput input{boxes.data(), scores.data(), grouped ? groups.data() : nullptr,
                          reinterpret_cast<const bool*>(valid.data()), kBatch, size, 0.5f};
  fastdet::nms_cpu(input, most, kept.data(), counts.data(), fastdet::run_serially);
  int error = 0;
  const size_t bytes = fastdet::nms_cuda_workspace(kBatch, size, most, &error);
  succeed(error, "nms_cuda_workspace");
  const Device<float> device_boxes(boxes), device_scores(scores);
  const Device<int64_t> device_groups(groups), device_kept(std::vector<int64_t>(kept.size(), -1)),
      device_counts{std::vector<int64_t>(kBatch, -1)};
  const Device<uint8_t> workspace{std::vector<uint8_t>(bytes, 0xA5)}, device_valid(valid);
  input.boxes = device_boxes.get(), input.scores = device_scores.get(), input.valid = as_bool(device_valid);
  input.groups = grouped ? device_groups.get() : nullptr;
  succeed(fastdet::nms_cuda(input, most, device_kept.get(), device_counts.get(), workspace.get(), bytes, nullptr),
          "nms_cuda");
  EXPECT(device_kept.back() == kept);
  EXPECT(device_counts.back() == counts);
}

void soft_nms(fastdet::SoftNmsMethod method) {
  constexpr int64_t kBatch = 2, kSize = 300, kMost = 80;
  const std::vector<float> boxes = boxes_of(kBatch * kSize, 3), scores = tied_scores(kBatch * kSize, 4);
  std::vector<int64_t> groups(kBatch * kSize), kept(kBatch * kMost), counts(kBatch);
  for (size_t i = 0; i < groups.size(); ++i) groups[i] = static_cast<int64_t>(i % 2);
  std::vector<float> left(kBatch * kMost);
  fastdet::NmsInput input{boxes.data(), scores.data(), groups.data(), nullptr, kBatch, kSize, 0.0f};
  const fastdet::SoftNmsRule rule{method, 0.4f, 0.5f, 0.01f};
  fastdet::soft_nms_cpu(input, rule, {kMost, kept.data(), left.data(), counts.data()}, fastdet::run_serially);
  const Device<float> device_boxes(boxes), device_scores(scores), device_left(std::vector<float>(left.size(), -1.0f)),
      workspace(std::vector<float>(scores.size(), -1.0f));
  const Device<int64_t> device_groups(groups), device_kept(std::vector<int64_t>(kept.size(), -1)),
      device_counts(std::vector<int64_t>(kBatch, -1));
  input.boxes = device_boxes.get(), input.scores = device_scores.get(), input.groups = device_groups.get();
  succeed(fastdet::soft_nms_cuda(input, rule, {kMost, device_kept.get(), device_left.get(), device_counts.get()},
                                 workspace.get(), nullptr),
          "soft_nms_cuda");
  EXPECT(device_kept.back() == kept);
  EXPECT(device_counts.back() == counts);
  near(device_left.back(), left, "scores of soft_nms_cuda");
}

void matches() {
  constexpr int64_t kSize = 700;
  const std::vector<float> boxes = boxes_of(kSize, 5);
  std::vector<int64_t> owners(kSize);
  fastdet::nms_match_cpu(boxes.data(), kSize, 0.4f, owners.data());
  const Device<float> device_boxes(boxes);
  const Device<int64_t> device_owners(std::vector<int64_t>(kSize, 7));
  succeed(fastdet::nms_match_cuda(device_boxes.get(), kSize, 0.4f, device_owners.get(), nullptr), "nms_match_cuda");
  EXPECT(device_owners.back() == owners);
}

// What a head says, in levels of 9000, 70 and 1 priors, on logits with many ties.
struct Scene {
  static constexpr int64_t kBatch = 2, kClasses = 5, kPriors = 9071, kMost = 60;

  explicit Scene(int64_t numbers_said)
      : logits(numbers(kBatch * kPriors * kClasses, 6, -6, 2)),
        codes(numbers(kBatch * kPriors * numbers_said, 7, -1, 1)),
        quality(numbers(kBatch * kPriors, 8, -2, 2)),
        priors(boxes_of(kPriors, 9)),
        sizes{50, 60, 64, 64} {
    for (float& logit : logits) logit = std::floor(logit * 8) / 8;
    args.batch = kBatch, args.num_priors = kPriors, args.num_classes = kClasses;
    args.code.numbers = numbers_said, args.code.unit = 2.0f, args.code.clips = true;
    args.code.log_limit = 4.0f, args.code.center_limit = -1.0f;
    for (float& std : args.code.stds) std = 0.5f;
    args.num_levels = 3;
    args.lengths[0] = 9000, args.lengths[1] = 70, args.lengths[2] = 1;
    args.levels[1].first = 9000, args.levels[2].first = 9070;
    args.iou_threshold = 0.5f, args.max_output = kMost;
  }

  std::vector<float> logits, codes, quality, priors, sizes;
  fastdet::DensePostprocessArgs args{};
};

void dense(fastdet::BoxCode code, fastdet::Rivals rivals, int64_t limit, float threshold, bool best_class) {
  Scene scene(code == fastdet::BoxCode::kDistribution ? 4 * 8 : 4);
  fastdet::DensePostprocessArgs& args = scene.args;
  args.code.code = code, args.rivals = rivals, args.limit = limit, args.score_threshold = threshold;
  args.best_class = best_class, args.min_size = code == fastdet::BoxCode::kDelta ? 3.0f : -1.0f;
  args.code.clips = code != fastdet::BoxCode::kCell;
  constexpr int64_t kSlots = Scene::kBatch * Scene::kMost;
  std::vector<float> boxes(kSlots * 4), scores(kSlots);
  std::vector<int64_t> labels(kSlots), counts(Scene::kBatch);
  const auto place = [&args](const float* logits, const float* codes, const float* quality, const float* priors,
                             const float* sizes, float* to_boxes, float* to_scores, int64_t* to_labels,
                             int64_t* to_counts) {
    args.logits = logits, args.codes = codes, args.quality = quality, args.priors = priors, args.image_sizes = sizes;
    args.boxes = to_boxes, args.scores = to_scores, args.labels = to_labels, args.counts = to_counts;
  };
  place(scene.logits.data(), scene.codes.data(), scene.quality.data(), scene.priors.data(), scene.sizes.data(),
        boxes.data(), scores.data(), labels.data(), counts.data());
  fastdet::dense_postprocess_cpu(args, fastdet::run_serially);
  EXPECT(counts[0] > 0);
  const Device<float> logits(scene.logits), codes(scene.codes), quality(scene.quality), priors(scene.priors),
      sizes(scene.sizes), device_boxes(std::vector<float>(boxes.size(), -1.0f)),
      device_scores(std::vector<float>(scores.size(), -1.0f));
  const Device<int64_t> device_labels(std::vector<int64_t>(labels.size(), -1)),
      device_counts(std::vector<int64_t>(counts.size(), -1));
  place(logits.get(), codes.get(), quality.get(), priors.get(), sizes.get(), device_boxes.get(), device_scores.get(),
        device_labels.get(), device_counts.get());
  int error = 0;
  const size_t bytes = fastdet::dense_postprocess_cuda_workspace(args, &error);
  succeed(error, "dense_postprocess_cuda_workspace");
  const Device<uint8_t> workspace{std::vector<uint8_t>(bytes, 0xA5)};
  succeed(fastdet::dense_postprocess_cuda(args, workspace.get(), bytes, nullptr), "dense_postprocess_cuda");
  EXPECT(device_counts.back() == counts);
  EXPECT(device_labels.back() == labels);
  near(device_scores.back(), scores, "scores of dense_postprocess_cuda");
  near(device_boxes.back(), boxes, "boxes of dense_postprocess_cuda");
}

}  // namespace

void test_postprocessing() {
  for (const int64_t size : {1, 63, 1000, 1500, 3000, 5000, 9000}) nms(size, 300, size % 2 == 0);
  for (const fastdet::SoftNmsMethod method :
       {fastdet::SoftNmsMethod::kNaive, fastdet::SoftNmsMethod::kLinear, fastdet::SoftNmsMethod::kGaussian}) {
    soft_nms(method);
  }
  matches();
  dense(fastdet::BoxCode::kDelta, fastdet::Rivals::kSameClass, 100, 0.05f, false);
  dense(fastdet::BoxCode::kDelta, fastdet::Rivals::kSameLevel, -1, -1.0f, false);
  dense(fastdet::BoxCode::kDistance, fastdet::Rivals::kAll, 7, 0.3f, false);
  dense(fastdet::BoxCode::kDistribution, fastdet::Rivals::kSameClass, 100, 0.05f, false);
  dense(fastdet::BoxCode::kCell, fastdet::Rivals::kSameClass, 0, 0.05f, true);
}
