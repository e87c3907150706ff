"""RFP: a feature pyramid that is fed back into a second backbone.

Letters: B images, C channels, H and W cells.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastdet.models.layers import ActFactory, ConvFactory, Initialiser, NormFactory, init_kaiming
from fastdet.models.necks.fpn import FPN, ExtraSource
from fastdet.registry import NECKS


class AtrousPooling(nn.Module):
    """Convolutions of several dilations side by side, the last one on the map's mean. Key: aspp.i.

    Source: Chen et al., Rethinking Atrous Convolution, section 3.3, as Qiao et al., DetectoRS, section 3.2 use it.

    Args:
        out_channels: of each convolution.
        dilations: of the 3x3 convolutions; 1 stands for a 1x1 one, and the last must be 1.

    Raises:
        ValueError: another last dilation.
    """

    def __init__(self, in_channels: int, out_channels: int, dilations: Sequence[int]) -> None:
        super().__init__()
        if len(dilations) < 2 or dilations[-1] != 1:
            raise ValueError(f"aspp_dilations need two values or more, the last one 1, not {tuple(dilations)}")
        self.aspp = nn.ModuleList(
            nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation)
            if dilation > 1
            else nn.Conv2d(in_channels, out_channels, 1)
            for dilation in dilations
        )
        init_kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, len(dilations) * out_channels, H, W]."""
        *convs, last = self.aspp
        maps = [torch.relu(conv(x)) for conv in convs]
        mean = torch.relu(last(x.mean((2, 3), keepdim=True)))
        return torch.cat((*maps, mean.expand_as(maps[-1])), 1)


@NECKS.register()
class RFP(FPN):
    """FPN's levels go through further backbones and the same pyramid again, and are mixed with what comes out.

    Keys: FPN's, rfp_modules.i, rfp_aspp, rfp_weight. The mixture starts even.
    Source: Qiao et al., DetectoRS, section 3.

    Args:
        rfp_modules: backbones that are called with the image and the levels, one for each further step.
        aspp_out_channels, aspp_dilations: of what levels go through on their way to a backbone.
        others: as those of FPN.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        *,
        rfp_modules: Sequence[nn.Module],
        aspp_out_channels: int,
        aspp_dilations: Sequence[int] = (1, 3, 6, 1),
        start_level: int = 0,
        end_level: int = -1,
        add_extra_convs: bool | ExtraSource = False,
        relu_before_extra_convs: bool = False,
        no_norm_on_lateral: bool = False,
        conv: ConvFactory | None = None,
        norm: NormFactory | None = None,
        act: ActFactory | bool = False,
        upsample_mode: str = "nearest",
        upsample_scale: float | None = None,
        init: Initialiser | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            num_outs,
            start_level=start_level,
            end_level=end_level,
            add_extra_convs=add_extra_convs,
            relu_before_extra_convs=relu_before_extra_convs,
            no_norm_on_lateral=no_norm_on_lateral,
            conv=conv,
            norm=norm,
            act=act,
            upsample_mode=upsample_mode,
            upsample_scale=upsample_scale,
            init=init,
        )
        self.rfp_modules = nn.ModuleList(rfp_modules)
        self.rfp_aspp = AtrousPooling(out_channels, aspp_out_channels, aspp_dilations)
        self.rfp_weight = nn.Conv2d(out_channels, 1, 1)
        for parameter in self.rfp_weight.parameters():
            nn.init.zeros_(parameter)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """`num_outs` levels [B, out_channels, H, W], finest first, from the image [B, 3, H, W] and FPN's levels."""
        image, *rest = levels
        outs = super().forward(rest)
        for backbone in self.rfp_modules:
            feedback = (outs[0], *(self.rfp_aspp(x) for x in outs[1:]))
            again = super().forward(backbone(image, feedback))
            shares = [torch.sigmoid(self.rfp_weight(x)) for x in again]
            outs = tuple(share * new + (1 - share) * old for share, new, old in zip(shares, again, outs, strict=True))
        return outs
