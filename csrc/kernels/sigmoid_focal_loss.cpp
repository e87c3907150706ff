// Focal loss on the CPU: blocks of logits are turned into logits of being wrong and factors, then worked in vectors.
#include "sigmoid_focal_loss.h"

#include <algorithm>
#include <vector>

#include "cpu_kernels.h"

namespace fastdet {
namespace {

constexpr int64_t kBlock = 512;  // elements; a multiple of every vector's lanes

// One block of the flat [rows * classes] elements.
template <typename T>
struct Block {
  using A = accumulator_t<T>;

  A logits[kBlock];   // of being wrong
  A factors[kBlock];
  A results[kBlock];
  int64_t begin;
  int64_t size;
  int64_t positives[kBlock];  // places of the positives
  int64_t num_positives;

  void load(const SigmoidFocalLossArgs& args, int64_t index) {
    const T* values = static_cast<const T*>(args.logits);
    const A* weight = static_cast<const A*>(args.weight);
    begin = index * kBlock;
    size = std::min(kBlock, args.rows * args.classes - begin);
    num_positives = 0;
    cpu_kernels().widen.get<T>().widen(values + begin, size, logits);
    std::fill(logits + size, logits + kBlock, A(0));
    std::fill(factors + size, factors + kBlock, A(0));
    int64_t row = begin / args.classes;
    for (int64_t at = 0; at < size; ++row) {
      const int64_t first = row * args.classes - begin;  // where class 0 of this row lies; negative in a first row
      const int64_t end = std::min(size, first + args.classes);
      const A row_weight = weight != nullptr && !args.weight_per_class ? weight[row] : A(1);
      std::fill(factors + at, factors + end, row_weight * A(args.negative));
      const int64_t label = args.labels[row];
      const int64_t positive = first + label;
      if (label >= 0 && label < args.classes && positive >= at && positive < end) {
        logits[positive] = -logits[positive];
        factors[positive] = row_weight * A(args.positive);
        positives[num_positives++] = positive;
      }
      if (row_weight == A(0)) std::fill(logits + at, logits + end, A(0));
      at = end;
    }
    if (args.weight_per_class) {
      for (int64_t i = 0; i < size; ++i) {
        factors[i] *= weight[begin + i];
        if (weight[begin + i] == A(0)) logits[i] = A(0);
      }
    }
  }
};

template <typename T, typename Function>
void for_blocks(const SigmoidFocalLossArgs& args, ParallelRunner run, const Function& function) {
  constexpr int64_t kNanoseconds = kBlock;  // about 1 ns an element
  const int64_t blocks = (args.rows * args.classes + kBlock - 1) / kBlock;
  parallel_for(run, blocks, kMinTaskNanoseconds / kNanoseconds, [&](int64_t begin, int64_t end) {
    Block<T> block;
    for (int64_t index = begin; index < end; ++index) {
      block.load(args, index);
      function(index, block);
    }
  });
}

template <typename T>
void forward(const SigmoidFocalLossArgs& args, void* loss, double* sums, ParallelRunner run) {
  using A = accumulator_t<T>;
  const FocalLoops<A>& loops = cpu_kernels().focal_loss.get<A>();
  for_blocks<T>(args, run, [&](int64_t index, Block<T>& block) {
    const A sum = loops.values(block.logits, block.factors, kBlock, A(args.gamma), block.results);
    if (sums != nullptr) sums[index] = static_cast<double>(sum);
    else std::copy_n(block.results, block.size, static_cast<A*>(loss) + block.begin);
  });
}

void forward_of_any(const SigmoidFocalLossArgs& args, void* loss, double* sums, ParallelRunner run) {
  for_dtype(args.dtype, [&](auto zero) { forward<decltype(zero)>(args, loss, sums, run); });
}

template <typename T>
void backward(const SigmoidFocalLossArgs& args, const void* grad, bool one_grad, void* slope, ParallelRunner run) {
  using A = accumulator_t<T>;
  const FocalLoops<A>& loops = cpu_kernels().focal_loss.get<A>();
  const A* grads = static_cast<const A*>(grad);
  for_blocks<T>(args, run, [&](int64_t, Block<T>& block) {
    loops.slopes(block.logits, block.factors, kBlock, A(args.gamma), block.results);
    for (int64_t i = 0; i < block.num_positives; ++i) block.results[block.positives[i]] *= A(-1);
    for (int64_t i = 0; i < block.size; ++i) block.results[i] *= one_grad ? grads[0] : grads[block.begin + i];
    cpu_kernels().widen.get<T>().narrow(block.results, block.size, static_cast<T*>(slope) + block.begin);
  });
}

}  // namespace

void sigmoid_focal_loss_cpu(const SigmoidFocalLossArgs& args, void* loss, ParallelRunner run) {
  forward_of_any(args, loss, nullptr, run);
}

double sigmoid_focal_loss_sum_cpu(const SigmoidFocalLossArgs& args, ParallelRunner run) {
  std::vector<double> sums((args.rows * args.classes + kBlock - 1) / kBlock);
  forward_of_any(args, nullptr, sums.data(), run);
  double total = 0.0;
  for (const double sum : sums) total += sum;
  return total;
}

void sigmoid_focal_loss_backward_cpu(const SigmoidFocalLossArgs& args, const void* grad, bool one_grad, void* slope,
                                     ParallelRunner run) {
  for_dtype(args.dtype, [&](auto zero) { backward<decltype(zero)>(args, grad, one_grad, slope, run); });
}

}  // namespace fastdet
