"""Normalisation layers by name: factories that are called with the number of channels.

A Spec such as `BN(requires_grad=False)` is built into a factory; the part that holds it makes as many layers as it
needs. The factory's name is the layer's attribute name, so state-dict keys are MMDetection's (`bn1`, `conv.gn`).
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from fastdet.registry import LAYERS


@dataclass(frozen=True)
class NormFactory:
    """Makes layers of one kind.

    `name` is the attribute that layers get ("bn", "gn"); `requires_grad` says whether scale and shift are trained.
    """

    name: str
    make: Callable[[int], nn.Module]
    requires_grad: bool = True

    def __call__(self, channels: int) -> nn.Module:
        """A new layer for that many channels."""
        layer = self.make(channels)
        layer.requires_grad_(self.requires_grad)
        return layer


@LAYERS.register("BN", "BN2d")
def batch_norm(requires_grad: bool = True, eps: float = 1e-5, momentum: float = 0.1) -> NormFactory:
    """Batch normalisation over images and pixels."""
    return NormFactory("bn", lambda channels: nn.BatchNorm2d(channels, eps=eps, momentum=momentum), requires_grad)


@LAYERS.register("SyncBN", "MMSyncBN")
def sync_batch_norm(requires_grad: bool = True, eps: float = 1e-5, momentum: float = 0.1) -> NormFactory:
    """Batch normalisation with statistics over all processes, which need GPUs; one process alone may use the CPU."""
    return NormFactory("bn", lambda channels: nn.SyncBatchNorm(channels, eps=eps, momentum=momentum), requires_grad)


@LAYERS.register("LN")
def layer_norm(requires_grad: bool = True, eps: float = 1e-5) -> NormFactory:
    """Normalisation of each token over its channels."""
    return NormFactory("ln", lambda channels: nn.LayerNorm(channels, eps=eps), requires_grad)


class LayerNorm2d(nn.LayerNorm):
    """Normalisation of each cell over its channels."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@LAYERS.register("LN2d")
def layer_norm_2d(requires_grad: bool = True, eps: float = 1e-5) -> NormFactory:
    """Normalisation of each cell of a map over its channels."""
    return NormFactory("ln", lambda channels: LayerNorm2d(channels, eps=eps), requires_grad)


@LAYERS.register("GN")
def group_norm(num_groups: int, requires_grad: bool = True, eps: float = 1e-5) -> NormFactory:
    """Group normalisation."""

    def make(channels: int) -> nn.Module:
        if channels % num_groups:
            raise ValueError(f"GN: num_groups ({num_groups}) must divide the number of channels ({channels})")
        return nn.GroupNorm(num_groups, channels, eps=eps)

    return NormFactory("gn", make, requires_grad)
