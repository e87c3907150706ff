// The few lines that a test of the kernels needs: expectations, a seeded generator, threads.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <thread>
#include <vector>

#include "kernels/common.h"

namespace testing {

inline int failures = 0;

inline void expect(bool holds, const char* text, const char* file, int line) {
  if (holds) return;
  ++failures;
  std::printf("%s:%d: expected %s\n", file, line, text);
}

#define EXPECT(condition) testing::expect((condition), #condition, __FILE__, __LINE__)

// Numbers in [0, 1) from a linear congruential generator: the same everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2 + 1) {}

  float uniform() {
    state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<float>(state_ >> 40) / 16777216.0f;
  }

 private:
  uint64_t state_;
};

// Two threads, each with half of the work: races show under a sanitizer, and splits must not change results.
inline void run_on_two_threads(int64_t size, int64_t, fastdet::ParallelBody body, void* context) {
  const int64_t middle = size / 2;
  std::thread first([=] { body(0, middle, context); });
  body(middle, size, context);
  first.join();
}

inline int report() {
  std::printf(failures == 0 ? "ok\n" : "%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}

}  // namespace testing
