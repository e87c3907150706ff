// CUDA's built-ins on the CPU, so that a test can run a kernel where no GPU is.
//
// The threads of a block are fibers that take turns: each runs until it waits for others, at __syncthreads or in an
// exchange within its warp, or ends. The order of turns is a parameter: warps run one after another as far as they come,
// or a little of each, so that a kernel that misses a barrier gives another result in one of the orders. Blocks run one
// after another, so that shared memory is static. A block that waits for threads which have ended, or a warp of which
// some lanes take another way, is reported.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <bitset>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define __grid_constant__
#define __align__(bytes) alignas(bytes)

using std::isfinite;

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;

  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
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
    ended_ = 0;
    for (uint64_t random = 1; ended_ < fibers_.size(); random = random * 6364136223846793005ull + 1) {
      const uint64_t steps = steps_;
      const size_t chance = order_ == Order::kShuffled ? random >> 33 : 0;
      for (size_t turn = 0; turn < warps_.size(); ++turn) {
        run_warp(order_ == Order::kDownwards ? warps_.size() - 1 - turn : (turn + chance) % warps_.size(), chance);
      }
      if (steps == steps_) {
        std::fprintf(stderr, "emulated block: threads wait for others that never come\n");
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

  // As far as the warp comes without the others, or if shuffled, a few of its exchanges further.
  void run_warp(size_t warp, size_t chance) {
    const size_t first = warp * kLanes;
    const size_t lanes = std::min<size_t>(kLanes, fibers_.size() - first);
    uint64_t steps = steps_ - 1;
    for (size_t round = 0; steps != steps_ && (order_ != Order::kShuffled || round <= chance % 4); ++round) {
      steps = steps_;
      for (size_t turn = 0; turn < lanes; ++turn) {
        running_ = first + (order_ == Order::kDownwards ? lanes - 1 - turn : (turn + chance) % lanes);
        Fiber& fiber = fibers_[running_];
        if (fiber.ended || (fiber.waits != nullptr && fiber.waits->round == fiber.round)) continue;
        fiber.waits = nullptr;
        ++steps_;
        threadIdx = {static_cast<unsigned>(running_), 0, 0};
        take_turn(fiber);
        ended_ += fiber.ended;
      }
    }
  }

  // Returns when the fiber waits or has ended.
  __attribute__((noinline)) void take_turn(Fiber& fiber) {
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
  size_t ended_ = 0;
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

// The value of another lane, of lane `from` as it is in the running one.
template <typename T>
T emulated_shuffle(T value, size_t (*from)(size_t lane, int argument, int width), int argument, int width) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  const uint64_t found = emulated::Block::current()->exchange(
      bits, [&](const uint64_t* values, size_t lane) { return values[from(lane, argument, width)]; });
  std::memcpy(&value, &found, sizeof(T));
  return value;
}

template <typename T>
T __shfl_sync(unsigned, T value, int source, int width = emulated::kLanes) {
  const auto from = [](size_t lane, int argument, int lanes) { return lane / lanes * lanes + argument % lanes; };
  return emulated_shuffle(value, +from, source, width);
}

template <typename T>
T __shfl_xor_sync(unsigned, T value, int distance, int width = emulated::kLanes) {
  const auto from = [](size_t lane, int argument, int) { return lane ^ static_cast<size_t>(argument); };
  return emulated_shuffle(value, +from, distance, width);
}

template <typename T>
T __shfl_up_sync(unsigned, T value, int distance, int width = emulated::kLanes) {
  const auto from = [](size_t lane, int argument, int lanes) {
    return lane % lanes < static_cast<size_t>(argument) ? lane : lane - argument;
  };
  return emulated_shuffle(value, +from, distance, width);
}

inline void __syncwarp(unsigned = ~0u) {
  emulated::Block::current()->exchange(0, [](const uint64_t*, size_t) { return 0; });
}

// Lanes that run together are never known: here each is alone.
inline unsigned __activemask() { return 1u << threadIdx.x % emulated::kLanes; }

template <typename T>
unsigned __match_any_sync(unsigned mask, T value) {
  if (mask == __activemask()) return mask;
  unsigned equal = 0;
  for (int lane = 0; lane < emulated::kLanes; ++lane) {
    equal |= static_cast<unsigned>(__shfl_sync(mask, value, lane) == value) << lane;
  }
  return equal;
}

inline int __popc(unsigned bits) { return static_cast<int>(std::bitset<32>(bits).count()); }
inline int __ffs(int bits) { return bits == 0 ? 0 : __builtin_ctz(static_cast<unsigned>(bits)) + 1; }

template <typename To, typename From>
To emulated_bits(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

inline unsigned __float_as_uint(float value) { return emulated_bits<unsigned>(value); }
inline float __uint_as_float(unsigned bits) { return emulated_bits<float>(bits); }
inline long long __double_as_longlong(double value) { return emulated_bits<long long>(value); }
inline double __longlong_as_double(long long bits) { return emulated_bits<double>(bits); }

inline int __popcll(unsigned long long bits) { return static_cast<int>(std::bitset<64>(bits).count()); }

template <typename T>
T atomicAdd(T* to, std::common_type_t<T> value) {
  const T before = *to;
  *to += value;
  return before;
}

template <typename T>
T atomicMax(T* to, std::common_type_t<T> value) {
  const T before = *to;
  *to = before < value ? value : before;
  return before;
}

// What the host calls. Memory of the device is the host's, filled with bytes that no kernel may rely on.
using cudaError_t = int;
using cudaStream_t = void*;
constexpr cudaError_t cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorMemoryAllocation = 2;
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };

inline const char* cudaGetErrorString(cudaError_t) { return "an invalid value"; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }

inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

template <typename T>
cudaError_t cudaMalloc(T** memory, size_t bytes) {
  *memory = static_cast<T*>(::operator new(bytes, std::align_val_t{256}));
  std::memset(static_cast<void*>(*memory), 0xA5, bytes);
  return cudaSuccess;
}

inline cudaError_t cudaFree(void* memory) {
  ::operator delete(memory, std::align_val_t{256});
  return cudaSuccess;
}

inline cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  if (bytes > 0) std::memcpy(to, from, bytes);
  return cudaSuccess;
}

inline cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  std::memset(to, value, bytes);
  return cudaSuccess;
}

namespace emulated {

struct Configuration {
  dim3 grid;
  unsigned threads;
  size_t shared_bytes;
  cudaStream_t stream;
};

inline std::vector<unsigned char>& shared_bytes() {
  static std::vector<unsigned char> bytes;
  return bytes;
}

// Of the block that runs, as large as its launch says.
inline unsigned char* shared_memory() { return shared_bytes().data(); }

// $FASTDET_ORDER: upwards, downwards or shuffled.
inline Order order_of_turns() {
  const char* name = std::getenv("FASTDET_ORDER");
  if (name == nullptr || std::strcmp(name, "shuffled") == 0) return Order::kShuffled;
  return std::strcmp(name, "upwards") == 0 ? Order::kUpwards : Order::kDownwards;
}

inline void start(const Configuration& configuration, const std::function<void()>& kernel) {
  shared_bytes().assign(configuration.shared_bytes, 0xA5);
  launch(configuration.grid, configuration.threads, order_of_turns(), kernel);
}

}  // namespace emulated
