"""SSDVGG: VGG with its fully connected layers as convolutions.

Letters: B images, H and W cells.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from fastdet.models.layers import init_kaiming
from fastdet.registry import BACKBONES

DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
WIDTHS = (1, 2, 4, 8, 8)
"""Of each stage, in widths of the first."""
LAST_WIDTH = 16


@BACKBONES.register()
class SSDVGG(nn.Module):
    """VGG as SSD reads it: the last pooling keeps the size, a dilated and a 1x1 convolution follow.

    Convolutions start from He's normal distribution. Keys: features.i.
    Source: Liu et al., SSD, section 3.1.

    Args:
        depth: 11, 13, 16 or 19.
        with_last_pool: whether a pooling ends the fifth stage, before SSD's own layers.
        ceil_mode: poolings keep the last odd cell.
        base_channels: channels of the first stage; VGG has 64.
        out_feature_indices: the layers whose maps come out.

    Raises:
        ValueError: an unknown depth, or indices out of range.
    """

    def __init__(
        self,
        depth: int,
        *,
        with_last_pool: bool = False,
        ceil_mode: bool = True,
        base_channels: int = 64,
        out_feature_indices: Sequence[int] = (22, 34),
    ) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise ValueError(f"SSDVGG depth must be one of {', '.join(map(str, DEPTHS))}, not {depth}")
        layers: list[nn.Module] = []
        source = 3
        for stage, (convs, times) in enumerate(zip(DEPTHS[depth], WIDTHS, strict=True)):
            width = times * base_channels
            for _ in range(convs):
                layers += [nn.Conv2d(source, width, 3, padding=1), nn.ReLU()]
                source = width
            if stage < len(WIDTHS) - 1 or with_last_pool:
                layers.append(nn.MaxPool2d(2, stride=2, ceil_mode=ceil_mode))
        layers.append(nn.MaxPool2d(3, stride=1, padding=1))
        last = LAST_WIDTH * base_channels
        layers += [nn.Conv2d(source, last, 3, padding=6, dilation=6), nn.ReLU()]
        layers += [nn.Conv2d(last, last, 1), nn.ReLU()]
        if not out_feature_indices or not all(0 <= i < len(layers) for i in out_feature_indices):
            raise ValueError(
                f"out_feature_indices must be layers from 0 to {len(layers) - 1}, not {tuple(out_feature_indices)}"
            )
        self.features = nn.Sequential(*layers)
        self.out_feature_indices = tuple(out_feature_indices)
        init_kaiming(self)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps of `out_feature_indices`, finest first, of normalised pixels [B, 3, H, W]."""
        maps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.out_feature_indices:
                maps.append(x)
        return tuple(maps)
