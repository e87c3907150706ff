// Overlaps on the GPU: elementwise kernels, a thread to a pair.
#include "box_iou.h"
#include "cuda_common.cuh"

namespace fastdet {
namespace {

template <typename A>
__device__ __forceinline__ PairBox<A> load_box(const void* boxes, int64_t index) {
  const A* box = static_cast<const A*>(boxes) + index * 4;
  return {box[0], box[1], box[2], box[3]};
}

template <typename A>
__device__ __forceinline__ void store_box(void* boxes, int64_t index, const PairBox<A>& box) {
  A* to = static_cast<A*>(boxes) + index * 4;
  to[0] = box.x1;
  to[1] = box.y1;
  to[2] = box.x2;
  to[3] = box.y2;
}

// Neighbouring threads have neighbouring columns of one row.
template <Overlap kKind, typename A>
__global__ void box_iou_kernel(const __grid_constant__ BoxIouArgs args) {
  const int64_t total = args.batch * args.rows * args.columns;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += step) {
    const int64_t row = i / args.columns;
    const int64_t column = i - row * args.columns;
    const int64_t image = args.shared_second ? 0 : row / args.rows;
    static_cast<A*>(args.values)[i] = pair_value<kKind>(
        load_box<A>(args.first, row), load_box<A>(args.second, image * args.columns + column), A(args.eps));
  }
}

template <Overlap kKind, typename A>
__global__ void paired_box_iou_kernel(const __grid_constant__ PairedBoxIouArgs args) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < args.count; i += step) {
    static_cast<A*>(args.values)[i] =
        pair_value<kKind>(load_box<A>(args.first, i), load_box<A>(args.second, i), A(args.eps));
  }
}

template <Overlap kKind, typename A>
__global__ void paired_box_iou_slope_kernel(const __grid_constant__ PairedBoxIouArgs args) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < args.count; i += step) {
    PairBox<A> of_first, of_second;
    pair_slopes<kKind>(load_box<A>(args.first, i), load_box<A>(args.second, i), A(args.eps),
                       static_cast<const A*>(args.grad)[i], of_first, of_second);
    store_box(args.first_gradient, i, of_first);
    store_box(args.second_gradient, i, of_second);
  }
}

template <typename A>
cudaError_t launch_matrix(const BoxIouArgs& args, cudaStream_t stream) {
  const unsigned blocks = grid_blocks(args.batch * args.rows * args.columns);
  if (args.kind == Overlap::kIou) box_iou_kernel<Overlap::kIou, A><<<blocks, kBlockThreads, 0, stream>>>(args);
  else if (args.kind == Overlap::kGiou) box_iou_kernel<Overlap::kGiou, A><<<blocks, kBlockThreads, 0, stream>>>(args);
  else box_iou_kernel<Overlap::kIof, A><<<blocks, kBlockThreads, 0, stream>>>(args);
  return cudaGetLastError();
}

template <Overlap kKind, typename A>
cudaError_t launch_pairs(const PairedBoxIouArgs& args, bool backward, cudaStream_t stream) {
  const unsigned blocks = grid_blocks(args.count);
  if (backward) paired_box_iou_slope_kernel<kKind, A><<<blocks, kBlockThreads, 0, stream>>>(args);
  else paired_box_iou_kernel<kKind, A><<<blocks, kBlockThreads, 0, stream>>>(args);
  return cudaGetLastError();
}

template <typename A>
cudaError_t launch_pairs_of_kind(const PairedBoxIouArgs& args, bool backward, cudaStream_t stream) {
  switch (args.kind) {
    case Overlap::kIou:
      return launch_pairs<Overlap::kIou, A>(args, backward, stream);
    case Overlap::kGiou:
      return launch_pairs<Overlap::kGiou, A>(args, backward, stream);
    case Overlap::kDiou:
      return launch_pairs<Overlap::kDiou, A>(args, backward, stream);
    case Overlap::kCiou:
      return launch_pairs<Overlap::kCiou, A>(args, backward, stream);
    case Overlap::kIof:
      break;
  }
  return cudaErrorInvalidValue;
}

int pairs(const PairedBoxIouArgs& args, bool backward, void* stream_pointer) {
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_pointer);
  if (args.count == 0) return cudaSuccess;
  return args.dtype == DType::kFloat64 ? launch_pairs_of_kind<double>(args, backward, stream)
                                       : launch_pairs_of_kind<float>(args, backward, stream);
}

}  // namespace

int box_iou_cuda(const BoxIouArgs& args, void* stream_pointer) {
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_pointer);
  if (args.batch * args.rows * args.columns == 0) return cudaSuccess;
  return args.dtype == DType::kFloat64 ? launch_matrix<double>(args, stream) : launch_matrix<float>(args, stream);
}

int paired_box_iou_cuda(const PairedBoxIouArgs& args, void* stream) { return pairs(args, false, stream); }

int paired_box_iou_backward_cuda(const PairedBoxIouArgs& args, void* stream) { return pairs(args, true, stream); }

}  // namespace fastdet
