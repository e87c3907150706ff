// Grid anchors on the CPU.
#include "anchors.h"

namespace fastdet {

void grid_anchors_cpu(const GridAnchorsArgs& args, ParallelRunner run) {
  for (int l = 0; l < args.num_levels; ++l) {
    const AnchorLevel& level = args.levels[l];
    const float* base = args.base + l * args.num_base * 4;
    float* out = args.anchors + level.first * 4;
    const int64_t count = level.height * level.width * args.num_base;
    constexpr int64_t kGrain = kMinTaskNanoseconds / 4;  // measured: about 4 ns an anchor
    parallel_for(run, count, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) grid_anchor(level, base, args.num_base, i, out + i * 4);
    });
  }
}

}  // namespace fastdet
