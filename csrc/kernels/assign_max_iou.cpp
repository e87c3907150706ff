// Assignment on the CPU: blocks of candidates meet only the objects that their common bounding box touches, and each
// object's best candidates are looked for again only in the blocks that hold its largest IoU.
#include "assign_max_iou.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "boxes.h"
#include "cpu_kernels.h"

namespace fastdet {
namespace {

// A block of candidates, one array per coordinate, and the box around them.
struct Candidates {
  float x1[kAssignBlock], y1[kAssignBlock], x2[kAssignBlock], y2[kAssignBlock], area[kAssignBlock];
  float bounds[4];

  AssignBlock block() const { return {x1, y1, x2, y2, area}; }

  // Not so for a NaN object, which overlaps nothing.
  bool may_touch(const AssignObject& object) const {
    return object.x1 < bounds[2] && object.x2 > bounds[0] && object.y1 < bounds[3] && object.y2 > bounds[1];
  }
};

class Image {
 public:
  Image(const AssignMaxIouArgs& args, int64_t image) : args_(args), image_(image) {
    for (int64_t m = 0; m < args.num_objects; ++m) {
      const int64_t at = image * args.num_objects + m;
      if (!args.valid[at]) continue;
      const float* box = args.objects + at * 4;
      objects_.push_back({box[0], box[1], box[2], box[3], (box[2] - box[0]) * (box[3] - box[1])});
      numbers_.push_back(static_cast<int32_t>(m));
    }
    num_blocks_ = (args.num_boxes + kAssignBlock - 1) / kAssignBlock;
    largest_.resize(num_blocks_ * objects_.size());
  }

  void assign(ParallelRunner run) {
    const int64_t boxes_at = image_ * args_.num_boxes;
    if (objects_.empty()) {
      for (int64_t i = boxes_at; i < boxes_at + args_.num_boxes; ++i) {
        args_.index[i] = is_candidate(i) ? kBackground : kIgnored;
        args_.iou[i] = 0.0f;
      }
      return;
    }
    const int64_t nanoseconds = kAssignBlock * (2 + static_cast<int64_t>(objects_.size()) / 8);
    const int64_t grain = std::max<int64_t>(1, kMinTaskNanoseconds / nanoseconds);
    parallel_for(run, num_blocks_, grain, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) find_best(b);
    });
    if (!args_.match_low_quality) return;
    find_largest();
    if (args_.all_ties) {
      parallel_for(run, num_blocks_, grain, [&](int64_t begin, int64_t end) {
        for (int64_t b = begin; b < end; ++b) take_ties(b);
      });
    } else {
      take_first();
    }
  }

 private:
  bool is_candidate(int64_t i) const { return args_.candidates == nullptr || args_.candidates[i]; }
  bool is_blocked(int64_t i) const { return args_.blocked != nullptr && args_.blocked[i]; }

  // Boxes that take no part are empty boxes, which overlap nothing.
  Candidates load_block(int64_t block) const {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    Candidates c;
    std::fill_n(c.bounds, 2, kInfinity);
    std::fill_n(c.bounds + 2, 2, -kInfinity);
    for (int64_t i = 0; i < kAssignBlock; ++i) {
      const int64_t at = block * kAssignBlock + i;
      float box[4] = {0.0f, 0.0f, 0.0f, 0.0f};
      if (at < args_.num_boxes) {
        const int64_t own = image_ * args_.num_boxes + at;
        if (is_candidate(own) && !is_blocked(own)) {
          std::copy_n(args_.boxes + (args_.shared_boxes ? at : own) * 4, 4, box);
          c.bounds[0] = std::min(c.bounds[0], box[0]);  // std::min keeps the first where the second is NaN
          c.bounds[1] = std::min(c.bounds[1], box[1]);
          c.bounds[2] = std::max(c.bounds[2], box[2]);
          c.bounds[3] = std::max(c.bounds[3], box[3]);
        }
      }
      c.x1[i] = box[0];
      c.y1[i] = box[1];
      c.x2[i] = box[2];
      c.y2[i] = box[3];
      c.area[i] = (box[2] - box[0]) * (box[3] - box[1]);
    }
    return c;
  }

  void find_best(int64_t block) {
    const Candidates candidates = load_block(block);
    float best[kAssignBlock] = {};
    int32_t index[kAssignBlock];
    std::fill_n(index, kAssignBlock, numbers_[0]);
    float* largest = largest_.data() + block * static_cast<int64_t>(objects_.size());
    for (size_t m = 0; m < objects_.size(); ++m) {
      largest[m] = candidates.may_touch(objects_[m])
                       ? cpu_kernels().assign_best(candidates.block(), objects_[m], numbers_[m], best, index)
                       : 0.0f;
    }
    const int64_t first = image_ * args_.num_boxes + block * kAssignBlock;
    const int64_t size = std::min(kAssignBlock, args_.num_boxes - block * kAssignBlock);
    for (int64_t i = 0; i < size; ++i) {
      const bool takes_part = is_candidate(first + i);
      const float iou = takes_part && is_blocked(first + i) ? -1.0f : best[i];
      const bool is_negative = iou >= std::max(args_.negative_low, 0.0f) && iou < args_.negative_high;
      const int64_t assigned = iou >= args_.positive ? index[i] : (is_negative ? kBackground : kIgnored);
      args_.index[first + i] = takes_part ? assigned : kIgnored;
      args_.iou[first + i] = iou;
    }
  }

  void find_largest() {
    best_.assign(objects_.size(), 0.0f);
    for (int64_t b = 0; b < num_blocks_; ++b) {
      for (size_t m = 0; m < objects_.size(); ++m) {
        best_[m] = std::max(best_[m], largest_[b * static_cast<int64_t>(objects_.size()) + m]);
      }
    }
  }

  bool holds_best(int64_t block, size_t m) const {
    return best_[m] >= args_.min_positive && largest_[block * static_cast<int64_t>(objects_.size()) + m] == best_[m];
  }

  // Later objects overwrite earlier ones.
  void take_ties(int64_t block) {
    bool any = false;
    for (size_t m = 0; m < objects_.size(); ++m) any = any || holds_best(block, m);
    if (!any) return;
    const Candidates candidates = load_block(block);
    int32_t taken[kAssignBlock];
    std::fill_n(taken, kAssignBlock, -1);
    for (size_t m = 0; m < objects_.size(); ++m) {
      if (holds_best(block, m)) {
        cpu_kernels().assign_equal(candidates.block(), objects_[m], numbers_[m], best_[m], taken);
      }
    }
    const int64_t first = image_ * args_.num_boxes + block * kAssignBlock;
    const int64_t size = std::min(kAssignBlock, args_.num_boxes - block * kAssignBlock);
    for (int64_t i = 0; i < size; ++i) take(first + i, taken[i]);
  }

  void take_first() {
    for (size_t m = 0; m < objects_.size(); ++m) {
      bool found = false;
      for (int64_t b = 0; b < num_blocks_ && !found; ++b) {
        if (!holds_best(b, m)) continue;
        const Candidates candidates = load_block(b);
        int32_t taken[kAssignBlock];
        std::fill_n(taken, kAssignBlock, -1);
        cpu_kernels().assign_equal(candidates.block(), objects_[m], numbers_[m], best_[m], taken);
        const int64_t size = std::min(kAssignBlock, args_.num_boxes - b * kAssignBlock);
        for (int64_t i = 0; i < size && !found; ++i) {
          const int64_t at = image_ * args_.num_boxes + b * kAssignBlock + i;
          found = taken[i] >= 0 && is_candidate(at) && !is_blocked(at);
          if (found) take(at, taken[i]);
        }
      }
    }
  }

  void take(int64_t at, int32_t object) const {
    if (object >= 0 && is_candidate(at) && !is_blocked(at)) args_.index[at] = object;
  }

  const AssignMaxIouArgs& args_;
  int64_t image_;
  int64_t num_blocks_;
  std::vector<AssignObject> objects_;
  std::vector<int32_t> numbers_;  // of the objects in the image
  std::vector<float> largest_;    // [block, object]
  std::vector<float> best_;       // [object]
};

}  // namespace

void assign_max_iou_cpu(const AssignMaxIouArgs& args, ParallelRunner run) {
  for (int64_t image = 0; image < args.batch; ++image) Image(args, image).assign(run);
}

}  // namespace fastdet
