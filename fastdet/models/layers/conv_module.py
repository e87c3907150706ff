"""Convolution, normalisation and activation as one module, and the factories of convolutions."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from fastdet.models.layers.activation import ActFactory
from fastdet.models.layers.init import init_kaiming
from fastdet.models.layers.norm import NormFactory
from fastdet.registry import LAYERS

ORDER = ("conv", "norm", "act")


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
        groups: int = 1,
        bias: bool = True,
    ) -> nn.Module: ...


@LAYERS.register("Conv2d", "Conv")
def plain_conv() -> ConvFactory:
    """The factory of torch's own convolution."""
    return nn.Conv2d


class ConvModule(nn.Module):
    """Convolution, then normalisation and activation if wanted. Keys: `conv`, and `bn` or `gn`.

    Args:
        bias: whether the convolution has one; None: if there is no norm.
        norm: makes the normalisation layer.
        conv: makes the convolution; None for torch's own.
        act: makes the activation; True for a ReLU, False for none.
        order: "conv", "norm" and "act" as they follow each other.

    Raises:
        ValueError: another order.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool | None = None,
        norm: NormFactory | None = None,
        conv: ConvFactory | None = None,
        act: ActFactory | bool = True,
        order: Sequence[str] = ORDER,
    ) -> None:
        super().__init__()
        if sorted(order) != sorted(ORDER):
            raise ValueError(f"order must hold 'conv', 'norm' and 'act' once each, not {tuple(order)}")
        make = conv or nn.Conv2d
        self.order = tuple(order)
        self.conv = make(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=norm is None if bias is None else bias,
        )
        self.norm_name = None if norm is None else norm.name
        if norm is not None:
            after = self.order.index("norm") > self.order.index("conv")
            self.add_module(norm.name, norm(out_channels if after else in_channels))
        make_act = nn.ReLU if act is True else act
        self.activate = make_act() if make_act else None
        init_kaiming(self.conv, self.activate.negative_slope if isinstance(self.activate, nn.LeakyReLU) else 0.0)

    @property
    def norm(self) -> nn.Module | None:
        """The normalisation layer, if there is one."""
        return None if self.norm_name is None else self.get_submodule(self.norm_name)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, out_channels, H', W']."""
        layers = {"conv": self.conv, "norm": self.norm, "act": self.activate}
        for name in self.order:
            layer = layers[name]
            if layer is not None:
                x = layer(x)
        return x


class DepthwiseSeparableConv(nn.Module):
    """A convolution of each channel alone, then one across channels. Keys: depthwise_conv, pointwise_conv.

    Arguments are ConvModule's; both convolutions have the norm and the activation.
    Source: Howard et al., MobileNets, section 3.1.
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
        act: ActFactory | bool = True,
    ) -> None:
        super().__init__()
        self.depthwise_conv = ConvModule(
            in_channels,
            in_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            groups=in_channels,
            norm=norm,
            conv=conv,
            act=act,
        )
        self.pointwise_conv = ConvModule(in_channels, out_channels, 1, norm=norm, conv=conv, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, out_channels, H', W']."""
        return self.pointwise_conv(self.depthwise_conv(x))
