// Focal loss on the GPU: elementwise kernels, and a sum of block sums in a fixed order.
#include "cuda_common.cuh"
#include "sigmoid_focal_loss.h"

namespace fastdet {
namespace {

template <typename A>
struct FocalElement {
  A logit;   // of being wrong
  A factor;  // 0: the element counts nowhere, whatever its logit is
  bool positive;
};

template <typename T>
__device__ __forceinline__ FocalElement<device_accumulator_t<T>> load_element(const SigmoidFocalLossArgs& args,
                                                                              int64_t index) {
  using A = device_accumulator_t<T>;
  const int64_t row = index / args.classes;
  const A* weight = static_cast<const A*>(args.weight);
  const A own = weight == nullptr ? A(1) : weight[args.weight_per_class ? index : row];
  if (own == A(0)) return {A(0), A(0), false};
  const A logit = device_widen(static_cast<const T*>(args.logits)[index]);
  const bool positive = args.labels[row] == index - row * args.classes;
  return {positive ? -logit : logit, own * A(positive ? args.positive : args.negative), positive};
}

// A thread computes whole elements in a grid-stride loop.
template <typename T>
__global__ void focal_loss_kernel(const __grid_constant__ SigmoidFocalLossArgs args, void* loss) {
  using A = device_accumulator_t<T>;
  const int64_t total = args.rows * args.classes;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += step) {
    const FocalElement<A> element = load_element<T>(args, i);
    static_cast<A*>(loss)[i] = element.factor == A(0) ? A(0) : element.factor * focal_value(element.logit, A(args.gamma));
  }
}

// The sum of a block's values, in thread 0; a tree over fixed places, so the same every time.
__device__ __forceinline__ double block_sum(double value) {
  __shared__ double sums[kBlockThreads];
  sums[threadIdx.x] = value;
  __syncthreads();
  for (int half = kBlockThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    __syncthreads();
  }
  return sums[0];
}

// A block sums the elements of its grid-stride loop in double.
template <typename T>
__global__ void focal_sum_kernel(const __grid_constant__ SigmoidFocalLossArgs args, double* partial_sums) {
  using A = device_accumulator_t<T>;
  const int64_t total = args.rows * args.classes;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  double sum = 0.0;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += step) {
    const FocalElement<A> element = load_element<T>(args, i);
    if (element.factor != A(0)) sum += static_cast<double>(element.factor * focal_value(element.logit, A(args.gamma)));
  }
  const double whole = block_sum(sum);
  if (threadIdx.x == 0) partial_sums[blockIdx.x] = whole;
}

// One block adds the partial sums.
template <typename A>
__global__ void focal_total_kernel(const double* partial_sums, int count, A* total) {
  double sum = 0.0;
  for (int i = threadIdx.x; i < count; i += blockDim.x) sum += partial_sums[i];
  const double whole = block_sum(sum);
  if (threadIdx.x == 0) *total = static_cast<A>(whole);
}

template <typename T>
__global__ void focal_slope_kernel(const __grid_constant__ SigmoidFocalLossArgs args, const void* grad, bool one_grad,
                                   void* slope) {
  using A = device_accumulator_t<T>;
  const A* grads = static_cast<const A*>(grad);
  const int64_t total = args.rows * args.classes;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += step) {
    const FocalElement<A> element = load_element<T>(args, i);
    A value = A(0);
    if (element.factor != A(0)) {
      value = element.factor * focal_slope(element.logit, A(args.gamma)) * grads[one_grad ? 0 : i];
    }
    static_cast<T*>(slope)[i] = device_narrow<T>(element.positive ? -value : value);
  }
}

template <typename T>
cudaError_t launch_values(const SigmoidFocalLossArgs& args, void* loss, cudaStream_t stream) {
  focal_loss_kernel<T><<<grid_blocks(args.rows * args.classes), kBlockThreads, 0, stream>>>(args, loss);
  return cudaGetLastError();
}

template <typename T>
cudaError_t launch_sum(const SigmoidFocalLossArgs& args, double* partial_sums, void* sum, cudaStream_t stream) {
  using A = device_accumulator_t<T>;
  const unsigned wanted = grid_blocks(args.rows * args.classes);
  const unsigned blocks = wanted < kFocalPartialSums ? wanted : static_cast<unsigned>(kFocalPartialSums);
  focal_sum_kernel<T><<<blocks, kBlockThreads, 0, stream>>>(args, partial_sums);
  focal_total_kernel<A><<<1, kBlockThreads, 0, stream>>>(partial_sums, static_cast<int>(blocks), static_cast<A*>(sum));
  return cudaGetLastError();
}

template <typename T>
cudaError_t launch_slopes(const SigmoidFocalLossArgs& args, const void* grad, bool one_grad, void* slope,
                          cudaStream_t stream) {
  focal_slope_kernel<T>
      <<<grid_blocks(args.rows * args.classes), kBlockThreads, 0, stream>>>(args, grad, one_grad, slope);
  return cudaGetLastError();
}

}  // namespace

int sigmoid_focal_loss_cuda(const SigmoidFocalLossArgs& args, void* loss, void* stream_pointer) {
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_pointer);
  if (args.rows * args.classes == 0) return cudaSuccess;
  return for_device_dtype(args.dtype, [&](auto zero) { return launch_values<decltype(zero)>(args, loss, stream); });
}

int sigmoid_focal_loss_sum_cuda(const SigmoidFocalLossArgs& args, double* partial_sums, void* sum,
                                void* stream_pointer) {
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_pointer);
  if (args.rows * args.classes == 0) {
    return cudaMemsetAsync(sum, 0, args.dtype == DType::kFloat64 ? sizeof(double) : sizeof(float), stream);
  }
  return for_device_dtype(args.dtype, [&](auto zero) {
    return launch_sum<decltype(zero)>(args, partial_sums, sum, stream);
  });
}

int sigmoid_focal_loss_backward_cuda(const SigmoidFocalLossArgs& args, const void* grad, bool one_grad, void* slope,
                                     void* stream_pointer) {
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_pointer);
  if (args.rows * args.classes == 0) return cudaSuccess;
  return for_device_dtype(args.dtype, [&](auto zero) {
    return launch_slopes<decltype(zero)>(args, grad, one_grad, slope, stream);
  });
}

}  // namespace fastdet
