// TensorRT's plugin for the columns of deform_conv2d of contiguous [batch, channels, height, width] maps; the graph
// multiplies them with the weights. Compiled by fastdet/deploy/plugins with
//   FASTDET_FEATURE   type of the map and of the columns: float, __half or __nv_bfloat16
//   FASTDET_MASK      1: there is a mask
//   FASTDET_OFFSET_GROUPS, FASTDET_KERNEL_H, _W, FASTDET_STRIDE_H, _W, FASTDET_PADDING_H, _W, FASTDET_DILATION_H, _W
#include "kernels/cuda_common.cuh"
#include "kernels/deform_place.cuh"

namespace fastdet {

constexpr int kColumnChannels = 32;  // of a block: more blocks than that would repeat the work of locating the tap

}  // namespace fastdet

// A thread makes the columns' entries of one output position, blockIdx.x * kBlockThreads + threadIdx.x, for the tap,
// offset group and image of blockIdx.y and the channels of blockIdx.z; its neighbours write beside it. Sums in float; no
// shared memory; deterministic.
//
// columns: [batch, channels, taps, out_h * out_w]
extern "C" __global__ void __launch_bounds__(fastdet::kBlockThreads)
    fastdet_deform_columns(const FASTDET_FEATURE* input, const float* offset,
#if FASTDET_MASK
                           const float* mask,
#endif
                           int channels, int height, int width, int out_h, int out_w, FASTDET_FEATURE* columns) {
  fastdet::DeformConv2dArgs args = {};
  args.input = input;
  args.offset = offset;
#if FASTDET_MASK
  args.mask = mask;
#endif
  args.channels = channels;
  args.height = height;
  args.width = width;
  args.out_h = out_h;
  args.out_w = out_w;
  args.kernel_h = FASTDET_KERNEL_H;
  args.kernel_w = FASTDET_KERNEL_W;
  args.stride_h = FASTDET_STRIDE_H;
  args.stride_w = FASTDET_STRIDE_W;
  args.padding_h = FASTDET_PADDING_H;
  args.padding_w = FASTDET_PADDING_W;
  args.dilation_h = FASTDET_DILATION_H;
  args.dilation_w = FASTDET_DILATION_W;
  args.offset_groups = FASTDET_OFFSET_GROUPS;
  const int64_t position = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (position >= args.positions()) return;
  const int64_t plane = blockIdx.y;  // of the mask
  const int64_t kernel_tap = plane % args.taps();
  const int64_t image = plane / (args.taps() * args.offset_groups);
  const int64_t share = args.channels / args.offset_groups;
  const int64_t first = plane / args.taps() % args.offset_groups * share;
  const int64_t begin = static_cast<int64_t>(blockIdx.z) * fastdet::kColumnChannels;
  const int64_t end = begin + fastdet::kColumnChannels < share ? begin + fastdet::kColumnChannels : share;
  const fastdet::DeformPlace<float> place = fastdet::deform_place<float>(args, plane, kernel_tap, position);
  for (int64_t c = begin; c < end; ++c) {
    const int64_t channel = image * args.channels + first + c;
    const FASTDET_FEATURE* map = input + channel * args.height * args.width;
    float sum = 0.0f;
    if (place.tap.inside) {
#pragma unroll
      for (int corner = 0; corner < 4; ++corner) {
        sum += place.tap.weight[corner] * place.mask * fastdet::device_widen(map[place.tap.cell[corner]]);
      }
    }
    columns[(channel * args.taps() + kernel_tap) * args.positions() + position] =
        fastdet::device_narrow<FASTDET_FEATURE>(sum);
  }
}
