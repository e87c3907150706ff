// Dense post-processing on the CPU: one pass over the logits with a bound that rises to the score of the worst
// candidate that a level still takes, then decoding and NMS of the few that are left.
#include "dense_postprocess.h"

#include <algorithm>
#include <limits>
#include <type_traits>
#include <vector>

#include "cpu_kernels.h"
#include "nms.h"

namespace fastdet {
namespace {

// A candidate in 8 bytes: ascending order is descending score, then ascending pair of prior and class in the level.
using Item = uint64_t;

Item item_of(float score, uint32_t pair) { return static_cast<uint64_t>(score_key(score)) << 32 | pair; }
uint32_t pair_of(Item item) { return static_cast<uint32_t>(item); }

template <typename T>
FindAbove<T> find_above() {
  if constexpr (std::is_same_v<T, float>) return cpu_kernels().find_above;
  else if constexpr (std::is_same_v<T, Half>) return cpu_kernels().find_above_half;
  else return cpu_kernels().find_above_bfloat16;
}

// A bound that every logit exceeds whose sigmoid is above the threshold; a bit too low, for rounding.
float logit_bound(float score_threshold) {
  if (!(score_threshold > 0.0f)) return -std::numeric_limits<float>::infinity();
  constexpr double kLargest = 1.0 - 1e-5;
  constexpr double kMargin = 0.02;
  const double score = std::min(static_cast<double>(score_threshold), kLargest);
  return static_cast<float>(std::log(score / (1.0 - score)) - kMargin);
}

float read(const void* data, DType dtype, int64_t index) {
  if (dtype == DType::kFloat16) return widen(static_cast<const Half*>(data)[index]);
  if (dtype == DType::kBFloat16) return widen(static_cast<const BFloat16*>(data)[index]);
  return static_cast<const float*>(data)[index];
}

struct Scored {
  float score;
  int64_t label;
};

// The best class of a prior, by its row among those of all images, and its score with the quality. NaN if any class has
// NaN.
template <typename T>
Scored best_class(const DensePostprocessArgs& args, int64_t row, float quality) {
  const T* logits = static_cast<const T*>(args.logits) + row * args.num_classes;
  float most = widen(logits[0]);
  for (int64_t c = 1; c < args.num_classes; ++c) {
    const float logit = widen(logits[c]);
    if (logit > most || logit != logit) most = logit;
  }
  const float score = sigmoid(most);
  int64_t label = 0;
  while (label + 1 < args.num_classes && sigmoid(widen(logits[label])) < score) ++label;
  return {score * quality, label};
}

float quality_of(const DensePostprocessArgs& args, int64_t row) {
  return args.quality == nullptr ? 1.0f : sigmoid(read(args.quality, args.quality_dtype, row));
}

// The candidates of priors [begin, end), of which the first is `row`. No class lifts a score above the quality.
template <typename T>
void search_best_classes(const DensePostprocessArgs& args, int64_t row, int64_t begin, int64_t end,
                         std::vector<Item>& items) {
  for (int64_t prior = begin; prior < end; ++prior) {
    const float quality = quality_of(args, row + prior);
    if (!(quality >= args.score_threshold)) continue;
    const float score = best_class<T>(args, row + prior, quality).score;
    if (score >= args.score_threshold) items.push_back(item_of(score, static_cast<uint32_t>(prior)));
  }
}

// The candidates of pairs [begin, end) of a level: at most `room` of them, in no set order.
template <typename T>
void search(const T* logits, int64_t begin, int64_t end, int64_t room, float score_threshold, std::vector<Item>& items) {
  constexpr int64_t kFound = 1024;
  constexpr int64_t kLeastBuffer = 4096;
  uint32_t found[kFound];
  float bound = logit_bound(score_threshold);
  const bool cuts = room < end - begin;
  const size_t full = static_cast<size_t>(std::max(kLeastBuffer, 3 * room));
  int64_t at = begin;
  while (at < end) {
    int64_t scanned = 0;
    const int64_t count = find_above<T>()(logits + at, end - at, bound, kFound, found, &scanned);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t pair = at + found[i];
      const float score = sigmoid(widen(logits[pair]));
      if (score > score_threshold) items.push_back(item_of(score, static_cast<uint32_t>(pair)));
    }
    at += scanned;
    if (!cuts || items.size() < full) continue;
    std::nth_element(items.begin(), items.begin() + (room - 1), items.end());
    items.resize(room);
    // A later pair of an equal score would lose to this one.
    bound = std::max(bound, widen(logits[pair_of(items[room - 1])]));
  }
}

// A stretch of a level of an image that one thread searches.
struct Stretch {
  int64_t image;
  int level;
  int64_t begin;
  int64_t end;
  std::vector<Item> items;
};

std::vector<Stretch> split(const DensePostprocessArgs& args) {
  constexpr int64_t kPairs = int64_t{1} << 20;
  std::vector<Stretch> stretches;
  for (int64_t image = 0; image < args.batch; ++image) {
    for (int level = 0; level < args.num_levels; ++level) {
      const int64_t size = level_pairs(args, level);
      for (int64_t begin = 0; begin < size; begin += kPairs) {
        stretches.push_back({image, level, begin, std::min(size, begin + kPairs), {}});
      }
    }
  }
  return stretches;
}

template <typename T>
void search_all(const DensePostprocessArgs& args, std::vector<Stretch>& stretches, ParallelRunner run) {
  const int64_t pairs = args.batch * args.num_priors * args.num_classes;
  const int64_t each = std::max<int64_t>(1, pairs / std::max<int64_t>(1, static_cast<int64_t>(stretches.size())));
  const int64_t grain = std::max<int64_t>(1, kMinTaskNanoseconds / each);  // about 1 ns a pair
  parallel_for(run, static_cast<int64_t>(stretches.size()), grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      Stretch& stretch = stretches[i];
      const int64_t before = stretch.image * args.num_priors + args.levels[stretch.level].first;
      if (args.best_class) {
        search_best_classes<T>(args, before, stretch.begin, stretch.end, stretch.items);
        continue;
      }
      const T* logits = static_cast<const T*>(args.logits) + before * args.num_classes;
      search(logits, stretch.begin, stretch.end, level_room(args, stretch.level), args.score_threshold, stretch.items);
    }
  });
}

struct Candidates {
  std::vector<float> boxes;
  std::vector<float> scores;
  std::vector<int64_t> labels;
  std::vector<int64_t> levels;
};

// Appends the level's candidates, by pair, that are large enough.
template <typename T>
void decode_level(const DensePostprocessArgs& args, int64_t image, int level, std::vector<Item>& items,
                  Candidates& out) {
  const int64_t room = level_room(args, level);
  if (static_cast<int64_t>(items.size()) > room) {
    std::nth_element(items.begin(), items.begin() + (room - 1), items.end());
    items.resize(room);
  }
  std::sort(items.begin(), items.end(), [](Item a, Item b) { return pair_of(a) < pair_of(b); });
  const float height = args.image_sizes[image * 2];
  const float width = args.image_sizes[image * 2 + 1];
  const int64_t first = image * args.num_priors;
  for (const Item item : items) {
    const int64_t pair = pair_of(item), classes = classes_of_prior(args);
    const int64_t number = args.levels[level].first + pair / classes;
    float prior[4];
    float box[4];
    prior_at(args, image, level, number, prior);
    const int64_t code = (first + number) * args.code.numbers;
    decode_box(args.code, prior, [&](int64_t i) { return read(args.codes, args.codes_dtype, code + i); }, height, width,
               box);
    if (!is_large(args, box)) continue;
    const float quality = quality_of(args, first + number);
    Scored found;
    if (args.best_class) {
      found = best_class<T>(args, first + number, quality);
    } else {
      const int64_t label = pair % classes, logit = (first + number) * classes + label;
      found = {sigmoid(read(args.logits, args.logits_dtype, logit)) * quality, label};
    }
    out.boxes.insert(out.boxes.end(), box, box + 4);
    out.scores.push_back(found.score);
    out.labels.push_back(found.label);
    out.levels.push_back(level);
  }
}

void finish_image(const DensePostprocessArgs& args, int64_t image, const Candidates& found, ParallelRunner run) {
  const int64_t at = image * args.max_output;
  const int64_t* groups[] = {found.labels.data(), found.levels.data(), nullptr};
  const int64_t size = static_cast<int64_t>(found.scores.size());
  const NmsInput input{found.boxes.data(), found.scores.data(), groups[static_cast<int>(args.rivals)],
                       nullptr, 1, size, args.iou_threshold};
  std::vector<int64_t> kept(args.max_output);
  nms_cpu(input, args.max_output, kept.data(), args.counts + image, run);
  const int64_t count = args.counts[image];
  for (int64_t k = 0; k < count; ++k) {
    std::copy_n(found.boxes.data() + kept[k] * 4, 4, args.boxes + (at + k) * 4);
    args.scores[at + k] = found.scores[kept[k]];
    args.labels[at + k] = found.labels[kept[k]];
  }
  std::fill(args.boxes + (at + count) * 4, args.boxes + (at + args.max_output) * 4, 0.0f);
  std::fill(args.scores + at + count, args.scores + at + args.max_output, 0.0f);
  std::fill(args.labels + at + count, args.labels + at + args.max_output, int64_t{0});
}

template <typename T>
void postprocess(const DensePostprocessArgs& args, ParallelRunner run) {
  std::vector<Stretch> stretches = split(args);
  search_all<T>(args, stretches, run);
  std::vector<std::vector<Item>> by_level(args.batch * args.num_levels);
  int64_t num_items = 0;
  for (Stretch& stretch : stretches) {
    std::vector<Item>& items = by_level[stretch.image * args.num_levels + stretch.level];
    num_items += static_cast<int64_t>(stretch.items.size());
    if (items.empty()) items.swap(stretch.items);
    else items.insert(items.end(), stretch.items.begin(), stretch.items.end());
  }
  constexpr int64_t kNanosecondsEach = 100;
  const int64_t image_nanoseconds = 1 + num_items * kNanosecondsEach / std::max<int64_t>(1, args.batch);
  const int64_t grain = std::max<int64_t>(1, kMinTaskNanoseconds / image_nanoseconds);
  parallel_for(run, args.batch, grain, [&](int64_t begin, int64_t end) {
    for (int64_t image = begin; image < end; ++image) {
      Candidates found;
      for (int level = 0; level < args.num_levels; ++level) {
        decode_level<T>(args, image, level, by_level[image * args.num_levels + level], found);
      }
      finish_image(args, image, found, run);
    }
  });
}

}  // namespace

void dense_postprocess_cpu(const DensePostprocessArgs& args, ParallelRunner run) {
  if (args.logits_dtype == DType::kFloat16) postprocess<Half>(args, run);
  else if (args.logits_dtype == DType::kBFloat16) postprocess<BFloat16>(args, run);
  else postprocess<float>(args, run);
}

}  // namespace fastdet
