// What tests of the CUDA kernels share: copies on the device, random numbers, comparisons.
#pragma once

#include <cuda_runtime.h>

#include "testing.h"

namespace testing {

inline void succeed(int error, const char* what) {
  if (error == cudaSuccess) return;
  std::printf("%s: %s\n", what, cudaGetErrorString(static_cast<cudaError_t>(error)));
  ++failures;
}

// A copy of a host array on the device.
template <typename T>
class Device {
 public:
  explicit Device(const std::vector<T>& values) : size_(values.size()) {
    succeed(cudaMalloc(&data_, sizeof(T) * (size_ + 1)), "cudaMalloc");
    succeed(cudaMemcpy(data_, values.data(), sizeof(T) * size_, cudaMemcpyHostToDevice), "copy to the device");
  }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  ~Device() { cudaFree(data_); }

  T* get() const { return data_; }

  std::vector<T> back() const {
    std::vector<T> values(size_);
    succeed(cudaMemcpy(values.data(), data_, sizeof(T) * size_, cudaMemcpyDeviceToHost), "copy from the device");
    return values;
  }

 private:
  size_t size_;
  T* data_ = nullptr;
};

inline std::vector<float> numbers(int64_t size, uint64_t seed, float low, float high) {
  Random random(seed);
  std::vector<float> values(size);
  for (float& value : values) value = low + (high - low) * random.uniform();
  return values;
}

inline std::vector<float> boxes_of(int64_t count, uint64_t seed) {
  std::vector<float> boxes = numbers(count * 4, seed, 0, 60);
  for (int64_t i = 0; i < count; ++i) {
    boxes[4 * i + 2] += boxes[4 * i];
    boxes[4 * i + 3] += boxes[4 * i + 1];
  }
  return boxes;
}

inline void near(const std::vector<float>& actual, const std::vector<float>& expected, const char* what) {
  double worst = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double error = std::abs(static_cast<double>(actual[i]) - expected[i]) / (1 + std::abs(expected[i]));
    worst = error <= worst ? worst : error;  // NaN counts as worst
  }
  if (!(worst < 1e-4)) {
    std::printf("%s: off by %g\n", what, worst);
    ++failures;
  }
}

}  // namespace testing

// The parts of the test.
void test_postprocessing();
void test_masks_and_losses();
