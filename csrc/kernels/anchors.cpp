// Grid anchors on the CPU.
#include "anchors.h"

#include <algorithm>

namespace fastdet {

void grid_anchors_cpu(const GridAnchorsArgs& args, ParallelRunner run) {
  for (int l = 0; l < args.num_levels; ++l) {
    const AnchorLevel& level = args.levels[l];
    const int64_t row_anchors = level.width * args.num_base;
    const int64_t row_nanoseconds = std::max<int64_t>(1, 3 * row_anchors);  // about 3 ns an anchor
    const int64_t grain = std::max<int64_t>(1, kMinTaskNanoseconds / row_nanoseconds);
    parallel_for(run, level.height, grain, [&](int64_t begin, int64_t end) {
      float* out = args.anchors + (level.first + begin * row_anchors) * 4;
      for (int64_t y = begin; y < end; ++y) {
        for (int64_t x = 0; x < level.width; ++x) {
          const float* base = args.base + l * args.num_base * 4;
          for (int64_t a = 0; a < args.num_base; ++a, base += 4, out += 4) shift_anchor(level, base, y, x, out);
        }
      }
    });
  }
}

}  // namespace fastdet
