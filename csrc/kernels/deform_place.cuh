// Where one tap of a deformable convolution samples: what the op's kernels and TensorRT's plugin share.
#pragma once

#include "cuda_common.cuh"
#include "deform_conv2d.h"
#include "deform_taps.h"

namespace fastdet {

template <typename A>
struct DeformPlace {
  BilinearTap<A> tap;
  A mask;
};

// Of an output position [0, positions) and a tap; `plane` is that of `mask` for the image, offset group and tap, and
// `offset` has two planes for each.
template <typename A>
__device__ __forceinline__ DeformPlace<A> deform_place(const DeformConv2dArgs& args, int64_t plane, int64_t kernel_tap,
                                                       int64_t position) {
  const A* offset = static_cast<const A*>(args.offset) + 2 * plane * args.positions() + position;
  const int64_t y =
      position / args.out_w * args.stride_h - args.padding_h + kernel_tap / args.kernel_w * args.dilation_h;
  const int64_t x =
      position % args.out_w * args.stride_w - args.padding_w + kernel_tap % args.kernel_w * args.dilation_w;
  DeformPlace<A> place;
  place.tap = bilinear_tap(A(y) + offset[0], A(x) + offset[args.positions()], args.height, args.width);
  place.mask = args.mask == nullptr ? A(1) : static_cast<const A*>(args.mask)[plane * args.positions() + position];
  return place;
}

}  // namespace fastdet
