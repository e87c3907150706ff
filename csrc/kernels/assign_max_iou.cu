// Assignment on the GPU: two passes over candidates and objects, IoUs in registers.
#include "assign_max_iou.h"
#include "boxes.h"
#include "cuda_common.cuh"

namespace fastdet {
namespace {

constexpr int kObjectTile = 128;

struct DeviceObject {
  float x1, y1, x2, y2, area;
  int number;
};

// IoU in the high half, so that the maximum of keys is the largest IoU and, of equal ones, the lowest candidate.
__device__ __forceinline__ unsigned long long key_of(float iou, int64_t candidate) {
  return (static_cast<unsigned long long>(__float_as_uint(iou)) << 32) |
         (0xFFFFFFFFull - static_cast<unsigned long long>(candidate));
}

__device__ __forceinline__ float iou_of_key(uint64_t key) { return __uint_as_float(static_cast<unsigned>(key >> 32)); }

struct DeviceBox {
  float x1, y1, x2, y2, area;
  bool takes_part;  // a candidate that is not blocked
  bool candidate;
};

// Boxes that take no part are empty boxes, which overlap nothing.
__device__ DeviceBox load_box(const AssignMaxIouArgs& args, int64_t image, int64_t index) {
  DeviceBox box{};
  if (index >= args.num_boxes) return box;
  const int64_t own = image * args.num_boxes + index;
  box.candidate = args.candidates == nullptr || args.candidates[own];
  box.takes_part = box.candidate && !(args.blocked != nullptr && args.blocked[own]);
  if (!box.takes_part) return box;
  const float* from = args.boxes + (args.shared_boxes ? index : own) * 4;
  box.x1 = from[0];
  box.y1 = from[1];
  box.x2 = from[2];
  box.y2 = from[3];
  box.area = exact_mul(box.x2 - box.x1, box.y2 - box.y1);
  return box;
}

// Loads a tile of objects into shared memory; slots that are not valid get number -1.
__device__ void load_objects(const AssignMaxIouArgs& args, int64_t image, int64_t first, DeviceObject* tile) {
  __syncthreads();
  for (int i = threadIdx.x; i < kObjectTile; i += blockDim.x) {
    const int64_t m = first + i;
    const int64_t at = image * args.num_objects + m;
    DeviceObject object{};
    object.number = -1;
    if (m < args.num_objects && args.valid[at]) {
      const float* from = args.objects + at * 4;
      object = {from[0], from[1], from[2], from[3], exact_mul(from[2] - from[0], from[3] - from[1]),
                static_cast<int>(m)};
    }
    tile[i] = object;
  }
  __syncthreads();
}

__device__ __forceinline__ float iou_of(const DeviceBox& box, const DeviceObject& object) {
  const float inter = intersection(object.x1, object.y1, object.x2, object.y2, box.x1, box.y1, box.x2, box.y2);
  const float iou = assigned_iou(inter, object.area, box.area);
  return iou > 0.0f ? iou : 0.0f;  // NaN is no overlap
}

// A block owns kBlockThreads candidates of one image, a thread one of them. Each object's best key is reduced over a
// warp and raised atomically: a maximum, so the result does not depend on the order.
__global__ void assign_best_kernel(const __grid_constant__ AssignMaxIouArgs args, uint64_t* best_keys) {
  __shared__ DeviceObject tile[kObjectTile];
  const int64_t image = blockIdx.y;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const DeviceBox box = load_box(args, image, index);
  float best = 0.0f;
  int chosen = -1;
  for (int64_t first = 0; first < args.num_objects; first += kObjectTile) {
    load_objects(args, image, first, tile);
    for (int i = 0; i < kObjectTile && first + i < args.num_objects; ++i) {
      if (tile[i].number < 0) continue;
      const float iou = iou_of(box, tile[i]);
      if (chosen < 0 || iou > best) {
        best = iou;
        chosen = tile[i].number;
      }
      if (!args.match_low_quality) continue;
      const bool counts = index < args.num_boxes && (args.all_ties ? !(box.candidate && !box.takes_part) : box.takes_part);
      unsigned long long key = counts ? key_of(iou, index) : 0;
      for (int away = 16; away > 0; away /= 2) {
        const unsigned long long other = __shfl_xor_sync(kAllLanes, key, away);
        key = other > key ? other : key;
      }
      if (threadIdx.x % 32 == 0 && key != 0) {
        atomicMax(reinterpret_cast<unsigned long long*>(best_keys + image * args.num_objects + tile[i].number), key);
      }
    }
  }
  if (index >= args.num_boxes) return;
  const bool none = chosen < 0;
  const float iou = !none && box.candidate && !box.takes_part ? -1.0f : best;
  const bool is_negative = none || (iou >= fmaxf(args.negative_low, 0.0f) && iou < args.negative_high);
  const int64_t assigned = !none && iou >= args.positive ? chosen : (is_negative ? kBackground : kIgnored);
  args.index[image * args.num_boxes + index] = box.candidate ? assigned : kIgnored;
  args.iou[image * args.num_boxes + index] = iou;
}

// The same division of work: a candidate takes the last object whose best it is.
__global__ void assign_low_quality_kernel(const __grid_constant__ AssignMaxIouArgs args, const uint64_t* best_keys) {
  __shared__ DeviceObject tile[kObjectTile];
  const int64_t image = blockIdx.y;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const DeviceBox box = load_box(args, image, index);
  int taken = -1;
  for (int64_t first = 0; first < args.num_objects; first += kObjectTile) {
    load_objects(args, image, first, tile);
    for (int i = 0; i < kObjectTile && first + i < args.num_objects; ++i) {
      if (tile[i].number < 0) continue;
      const uint64_t key = best_keys[image * args.num_objects + tile[i].number];
      const float iou = iou_of(box, tile[i]);
      const bool is_best = args.all_ties ? iou == iou_of_key(key) : key_of(iou, index) == key;
      if (key != 0 && is_best && iou_of_key(key) >= args.min_positive) taken = tile[i].number;
    }
  }
  if (box.takes_part && taken >= 0) args.index[image * args.num_boxes + index] = taken;
}

}  // namespace

int assign_max_iou_cuda(const AssignMaxIouArgs& args, uint64_t* best, void* stream) {
  if (args.batch == 0 || args.num_boxes == 0) return cudaSuccess;
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  const dim3 grid(static_cast<unsigned>((args.num_boxes + kBlockThreads - 1) / kBlockThreads),
                  static_cast<unsigned>(args.batch));
  const bool low_quality = args.match_low_quality && args.num_objects > 0;
  if (low_quality) {
    const cudaError_t error = cudaMemsetAsync(best, 0, args.batch * args.num_objects * sizeof(uint64_t), s);
    if (error != cudaSuccess) return error;
  }
  assign_best_kernel<<<grid, kBlockThreads, 0, s>>>(args, best);
  if (low_quality) assign_low_quality_kernel<<<grid, kBlockThreads, 0, s>>>(args, best);
  return cudaGetLastError();
}

}  // namespace fastdet
