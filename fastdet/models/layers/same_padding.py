"""A convolution that pads as much as its stride needs, more at the right and bottom if it is odd.

Letters: B images, H and W cells.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from fastdet.models.layers.conv_module import ConvFactory
from fastdet.registry import LAYERS


class SamePaddingConv2d(nn.Conv2d):
    """A convolution whose output has ceil(H / stride) x ceil(W / stride) cells, as TensorFlow's "SAME" padding has.

    It is called like `nn.Conv2d` and does not use `padding`. Keys: weight, bias.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, out_channels, H', W']."""
        down, right = (self._lacking(size, axis) for axis, size in enumerate(x.shape[2:]))
        x = F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)

    def _lacking(self, size: int, axis: int) -> int:
        stride, reach = self.stride[axis], self.dilation[axis] * (self.kernel_size[axis] - 1) + 1
        return max((-(-size // stride) - 1) * stride + reach - size, 0)


@LAYERS.register("Conv2dAdaptivePadding")
def same_padding_conv() -> ConvFactory:
    """The factory of convolutions with "SAME" padding."""
    return SamePaddingConv2d
