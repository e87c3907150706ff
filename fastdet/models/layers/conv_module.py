"""Convolution, normalisation and activation as one module, and the factories of convolutions."""

from typing import Protocol

import torch
from torch import Tensor, nn

from fastdet.models.layers.init import init_kaiming
from fastdet.models.layers.norm import NormFactory
from fastdet.registry import LAYERS


class ConvFactory(Protocol):
    """Makes a convolution, called like `nn.Conv2d`."""

    def __call__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        bias: bool = True,
    ) -> nn.Module: ...


@LAYERS.register("Conv2d", "Conv")
def plain_conv() -> ConvFactory:
    """The factory of torch's own convolution."""
    return nn.Conv2d


class ConvModule(nn.Module):
    """Convolution, then normalisation and ReLU if wanted. Keys: `conv`, and `bn` or `gn`.

    Args:
        norm: makes the normalisation layer; without one the convolution has a bias.
        conv: makes the convolution; None for torch's own.
        act: whether a ReLU ends the module.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        norm: NormFactory | None = None,
        conv: ConvFactory | None = None,
        act: bool = True,
    ) -> None:
        super().__init__()
        make = conv or nn.Conv2d
        self.conv = make(in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=norm is None)
        self.norm_name = None if norm is None else norm.name
        if norm is not None:
            self.add_module(norm.name, norm(out_channels))
        self.act = act
        init_kaiming(self)

    @property
    def norm(self) -> nn.Module | None:
        """The normalisation layer, if there is one."""
        return None if self.norm_name is None else self.get_submodule(self.norm_name)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, out_channels, H', W']."""
        x = self.conv(x)
        norm = self.norm
        if norm is not None:
            x = norm(x)
        return torch.relu(x) if self.act else x
