// CUDA's built-ins on the CPU, so that a test can run a kernel where no GPU is.
//
// The threads of a block are fibers that take turns: each runs until it waits for others, at __syncthreads or in an
// exchange within its warp, or ends. The order of turns is a parameter: a kernel that misses a barrier gives another
// result in another order. Blocks run one after another, so that shared memory is static. A block that waits for
// threads which have ended, or a warp of which some lanes take another way, is reported.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <bitset>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define __grid_constant__

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;

namespace emulated {

constexpr int kLanes = 32;

enum class Order { kUpwards, kDownwards, kShuffled };

// Threads that wait for one another.
struct Barrier {
  int members = 0;
  int arrived = 0;
  uint64_t round = 0;
};

struct Warp {
  Barrier barrier;
  uint64_t values[kLanes];
};

class Block {
 public:
  Block(unsigned threads, Order order) : order_(order), fibers_(threads), warps_((threads + kLanes - 1) / kLanes) {
    for (unsigned i = 0; i < threads; ++i) ++warps_[i / kLanes].barrier.members;
    all_.members = static_cast<int>(threads);
  }

  // Runs the kernel once in each thread.
  void run(const std::function<void()>& kernel) {
    kernel_ = &kernel;
    current() = this;
    for (size_t i = 0; i < fibers_.size(); ++i) {
      Fiber& fiber = fibers_[i];
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = stack(i);
      fiber.context.uc_stack.ss_size = kStackBytes;
      makecontext(&fiber.context, &Block::enter, 0);
    }
    const size_t size = fibers_.size();
    uint64_t random = 1;
    for (size_t left = size; left > 0;) {
      const uint64_t steps = steps_;
      const size_t first = order_ == Order::kShuffled ? (random = random * 6364136223846793005ull + 1) >> 33 : 0;
      for (size_t turn = 0; turn < size; ++turn) {
        // An odd stride visits each thread once, since blocks have an even number of them or one.
        const size_t shuffled = (first + turn * (size > 1 ? size / 2 - 1 + size / 2 % 2 : 1)) % size;
        running_ = order_ == Order::kUpwards ? turn : order_ == Order::kDownwards ? size - 1 - turn : shuffled;
        Fiber& fiber = fibers_[running_];
        if (fiber.ended || (fiber.waits != nullptr && fiber.waits->round == fiber.round)) continue;
        fiber.waits = nullptr;
        ++steps_;
        threadIdx = {static_cast<unsigned>(running_), 0, 0};
        take_turn(fiber);
        if (fiber.ended) --left;
      }
      if (steps == steps_) {
        std::printf("emulated block: threads wait for others that never come\n");
        std::abort();
      }
    }
  }

  void wait(Barrier& barrier) {
    if (++barrier.arrived == barrier.members) {
      barrier.arrived = 0;
      ++barrier.round;
      return;
    }
    Fiber& fiber = fibers_[running_];
    fiber.waits = &barrier;
    fiber.round = barrier.round;
    if (_setjmp(fiber.place) == 0) _longjmp(scheduler_, 1);
  }

  void wait_for_all() { wait(all_); }

  // Everybody's value in the warp of the running thread.
  template <typename Read>
  auto exchange(uint64_t value, const Read& read) {
    Warp& warp = warps_[running_ / kLanes];
    warp.values[running_ % kLanes] = value;
    wait(warp.barrier);
    const auto result = read(warp.values, running_ % kLanes);
    wait(warp.barrier);  // the next exchange overwrites the values
    return result;
  }

  static Block*& current() {
    static Block* block = nullptr;
    return block;
  }

 private:
  static constexpr size_t kStackBytes = 128 << 10;

  struct Fiber {
    ucontext_t context;  // to begin
    jmp_buf place;       // to go on: unlike a context, without a call of the system
    bool begun = false;
    const Barrier* waits = nullptr;
    uint64_t round = 0;
    bool ended = false;
  };

  // Blocks use the same memory one after another.
  static char* stack(size_t thread) {
    static std::vector<std::unique_ptr<char[]>> stacks;
    while (stacks.size() <= thread) stacks.emplace_back(new char[kStackBytes]);
    return stacks[thread].get();
  }

  static void enter() {
    Block& block = *current();
    (*block.kernel_)();
    block.fibers_[block.running_].ended = true;
    _longjmp(block.scheduler_, 1);
  }

  // Returns when the fiber waits or has ended.
  void take_turn(Fiber& fiber) {
    if (_setjmp(scheduler_) != 0) return;
    if (fiber.begun) _longjmp(fiber.place, 1);
    fiber.begun = true;
    setcontext(&fiber.context);
  }

  Order order_;
  std::vector<Fiber> fibers_;
  std::vector<Warp> warps_;
  Barrier all_;
  jmp_buf scheduler_;
  const std::function<void()>* kernel_ = nullptr;
  size_t running_ = 0;
  uint64_t steps_ = 0;
};

// kernel<<<grid, threads>>>(...), with the call in a lambda.
inline void launch(dim3 grid, unsigned threads, Order order, const std::function<void()>& kernel) {
  gridDim = grid;
  blockDim = {threads, 1, 1};
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = {x, y, z};
        Block(threads, order).run(kernel);
      }
    }
  }
}

}  // namespace emulated

inline void __syncthreads() { emulated::Block::current()->wait_for_all(); }

inline unsigned __ballot_sync(unsigned, int predicate) {
  return emulated::Block::current()->exchange(predicate != 0, [](const uint64_t* values, size_t) {
    unsigned word = 0;
    for (int lane = 0; lane < emulated::kLanes; ++lane) word |= static_cast<unsigned>(values[lane]) << lane;
    return word;
  });
}

inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }

template <typename T>
T __shfl_xor_sync(unsigned, T value, int distance) {
  return static_cast<T>(emulated::Block::current()->exchange(
      static_cast<uint64_t>(value),
      [distance](const uint64_t* values, size_t lane) { return values[lane ^ static_cast<size_t>(distance)]; }));
}

inline int __popcll(unsigned long long bits) { return static_cast<int>(std::bitset<64>(bits).count()); }

template <typename T>
T atomicAdd(T* to, T value) {
  const T before = *to;
  *to += value;
  return before;
}
