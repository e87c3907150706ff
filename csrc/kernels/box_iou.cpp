// Overlaps on the CPU: boxes are turned into one array per coordinate, block by block.
#include "box_iou.h"

#include <algorithm>

#include "cpu_kernels.h"

namespace fastdet {
namespace {

int64_t blocks_of(int64_t count) { return (count + kBoxBlock - 1) / kBoxBlock; }

// Boxes [size, 4] into a block, with empty boxes behind.
template <typename A>
void load_block(const A* boxes, int64_t size, A* block) {
  for (int k = 0; k < 4; ++k) {
    for (int64_t i = 0; i < size; ++i) block[k * kBoxBlock + i] = boxes[i * 4 + k];
    std::fill(block + k * kBoxBlock + size, block + (k + 1) * kBoxBlock, A(0));
  }
}

template <typename A>
void store_block(const A* block, int64_t size, A* boxes) {
  for (int k = 0; k < 4; ++k) {
    for (int64_t i = 0; i < size; ++i) boxes[i * 4 + k] = block[k * kBoxBlock + i];
  }
}

template <typename A>
void matrix(const BoxIouArgs& args, ParallelRunner run) {
  const BoxIouLoops<A>& loops = cpu_kernels().box_iou.get<A>();
  const A* first = static_cast<const A*>(args.first);
  const A* second = static_cast<const A*>(args.second);
  const int64_t blocks = blocks_of(args.columns);
  // A task is one block of columns of one image, against all rows; about half a nanosecond a pair.
  const int64_t nanoseconds = kBoxBlock * (args.rows / 2 + 4);
  parallel_for(run, args.batch * blocks, std::max<int64_t>(1, kMinTaskNanoseconds / nanoseconds),
               [&](int64_t begin, int64_t end) {
                 A block[4 * kBoxBlock], row[kBoxBlock];
                 for (int64_t task = begin; task < end; ++task) {
                   const int64_t image = task / blocks;
                   const int64_t at = task % blocks * kBoxBlock;
                   const int64_t size = std::min(kBoxBlock, args.columns - at);
                   load_block(second + ((args.shared_second ? 0 : image) * args.columns + at) * 4, size, block);
                   for (int64_t i = image * args.rows; i < (image + 1) * args.rows; ++i) {
                     A* out = static_cast<A*>(args.values) + i * args.columns + at;
                     const bool whole = size == kBoxBlock;
                     loops.row(args.kind, first + i * 4, block, kBoxBlock, A(args.eps), whole ? out : row);
                     if (!whole) std::copy_n(row, size, out);
                   }
                 }
               });
}

template <typename A>
void pairs(const PairedBoxIouArgs& args, bool backward, ParallelRunner run) {
  const BoxIouLoops<A>& loops = cpu_kernels().box_iou.get<A>();
  constexpr int64_t kNanoseconds = 10 * kBoxBlock;
  parallel_for(run, blocks_of(args.count), kMinTaskNanoseconds / kNanoseconds, [&](int64_t begin, int64_t end) {
    A first[4 * kBoxBlock], second[4 * kBoxBlock], line[kBoxBlock] = {};
    A first_slopes[4 * kBoxBlock], second_slopes[4 * kBoxBlock];
    for (int64_t index = begin; index < end; ++index) {
      const int64_t at = index * kBoxBlock;
      const int64_t size = std::min(kBoxBlock, args.count - at);
      load_block(static_cast<const A*>(args.first) + at * 4, size, first);
      load_block(static_cast<const A*>(args.second) + at * 4, size, second);
      if (backward) {
        std::copy_n(static_cast<const A*>(args.grad) + at, size, line);
        loops.pair_slopes(args.kind, first, second, line, kBoxBlock, A(args.eps), first_slopes, second_slopes);
        store_block(first_slopes, size, static_cast<A*>(args.first_gradient) + at * 4);
        store_block(second_slopes, size, static_cast<A*>(args.second_gradient) + at * 4);
      } else {
        loops.pairs(args.kind, first, second, kBoxBlock, A(args.eps), line);
        std::copy_n(line, size, static_cast<A*>(args.values) + at);
      }
    }
  });
}

}  // namespace

void box_iou_cpu(const BoxIouArgs& args, ParallelRunner run) {
  if (args.dtype == DType::kFloat64) matrix<double>(args, run);
  else matrix<float>(args, run);
}

void paired_box_iou_cpu(const PairedBoxIouArgs& args, ParallelRunner run) {
  if (args.dtype == DType::kFloat64) pairs<double>(args, false, run);
  else pairs<float>(args, false, run);
}

void paired_box_iou_backward_cpu(const PairedBoxIouArgs& args, ParallelRunner run) {
  if (args.dtype == DType::kFloat64) pairs<double>(args, true, run);
  else pairs<float>(args, true, run);
}

}  // namespace fastdet
