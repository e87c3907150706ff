// TensorRT's plugin for roi_align of contiguous [batch, channels, height, width] maps. Compiled by
// fastdet/deploy/plugins with
//   FASTDET_LEVELS    how many maps, at most 8
//   FASTDET_SCALES    {cells per pixel of each map}
//   FASTDET_FEATURE   type of the maps and of the result: float, __half or __nv_bfloat16
//   FASTDET_OUT_H, FASTDET_OUT_W, FASTDET_SAMPLING_RATIO, FASTDET_ALIGNED, FASTDET_FINEST_SCALE  the node's attributes
#include "kernels/roi_align_pool.cuh"

#define FASTDET_EACH_1(make) make(0)
#define FASTDET_EACH_2(make) FASTDET_EACH_1(make) make(1)
#define FASTDET_EACH_3(make) FASTDET_EACH_2(make) make(2)
#define FASTDET_EACH_4(make) FASTDET_EACH_3(make) make(3)
#define FASTDET_EACH_5(make) FASTDET_EACH_4(make) make(4)
#define FASTDET_EACH_6(make) FASTDET_EACH_5(make) make(5)
#define FASTDET_EACH_7(make) FASTDET_EACH_6(make) make(6)
#define FASTDET_EACH_8(make) FASTDET_EACH_7(make) make(7)
#define FASTDET_PASTE(a, b) a##b
#define FASTDET_EACH_OF(levels) FASTDET_PASTE(FASTDET_EACH_, levels)
#define FASTDET_EACH FASTDET_EACH_OF(FASTDET_LEVELS)
#define FASTDET_MAP(i) const FASTDET_FEATURE *map_##i,
#define FASTDET_SIZE(i) int height_##i, int width_##i,
#define FASTDET_LEVEL(i) fastdet::set_level(args, i, map_##i, height_##i, width_##i, scales[i]);

namespace fastdet {

__device__ __forceinline__ void set_level(RoiAlignArgs& args, int index, const void* map, int64_t height, int64_t width,
                                          double scale) {
  FeatureLevel& level = args.levels[index];
  level.data = const_cast<void*>(map);
  level.height = height;
  level.width = width;
  level.stride_n = args.channels * height * width;
  level.stride_c = height * width;
  level.stride_h = width;
  level.stride_w = 1;
  level.scale = scale;
}

}  // namespace fastdet

// Block column x pools RoI x; see pool_roi. Shared memory: what describes the call, about 1 KB.
extern "C" __global__ void __launch_bounds__(fastdet::kBlockThreads)
    fastdet_roi_align(const float* rois, FASTDET_EACH(FASTDET_MAP) int batch, int channels,
                      FASTDET_EACH(FASTDET_SIZE) FASTDET_FEATURE* pooled) {
  __shared__ fastdet::RoiAlignArgs args;
  if (threadIdx.x == 0) {
    const double scales[] = FASTDET_SCALES;
    args.num_levels = FASTDET_LEVELS;
    args.batch = batch;
    args.channels = channels;
    args.rois = rois;
    args.roi_levels = nullptr;
    args.num_rois = gridDim.x;
    args.out_h = FASTDET_OUT_H;
    args.out_w = FASTDET_OUT_W;
    args.sampling_ratio = FASTDET_SAMPLING_RATIO;
    args.aligned = FASTDET_ALIGNED != 0;
    args.finest_scale = FASTDET_FINEST_SCALE;
    args.pooled = pooled;
    args.pooled_channels_last = false;
    FASTDET_EACH(FASTDET_LEVEL)
  }
  __syncthreads();
  fastdet::pool_roi<FASTDET_FEATURE, 1, false>(args);
}
