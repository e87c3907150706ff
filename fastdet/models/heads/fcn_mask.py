"""FCNMaskHead: a small mask of each RoI for every class.

Letters: R RoIs, C classes, S side of the pooled square.
"""

from typing import Literal

from torch import Tensor, nn

from fastdet.models.layers import ConvFactory, ConvModule, NormFactory
from fastdet.models.layers.carafe import UpsampleFactory
from fastdet.models.layers.masked_norm import conv_valid
from fastdet.models.layers.normed import LinearFactory
from fastdet.registry import HEADS


@HEADS.register()
class FCNMaskHead(nn.Module):
    """Convolutions, one upsampling, one 1x1 convolution to a mask per class.

    Source: He et al., Mask R-CNN, section 3 and figure 4 (right).

    Args:
        num_classes: without the background.
        in_channels: of the pooled features.
        class_agnostic: one mask for all classes.
        upsample: "deconv" (transposed convolution and ReLU), "nearest", "bilinear", a factory, or None for none.
        scale_factor: by how much the upsampling enlarges the square.
        with_conv_res: a 1x1 convolution takes in what another mask head's convolutions found (Hybrid Task Cascade).
        conv, norm: factories of the convolutions' layers; without norm they have a bias.
        predictor: factory of the last 1x1 convolution; None for torch's own.

    Raises:
        ValueError: an unknown `upsample`.
    """

    def __init__(
        self,
        num_classes: int = 80,
        in_channels: int = 256,
        *,
        num_convs: int = 4,
        conv_kernel_size: int = 3,
        conv_out_channels: int = 256,
        class_agnostic: bool = False,
        upsample: Literal["deconv", "nearest", "bilinear"] | UpsampleFactory | None = "deconv",
        scale_factor: int = 2,
        with_conv_res: bool = False,
        conv: ConvFactory | None = None,
        norm: NormFactory | None = None,
        predictor: LinearFactory | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.class_agnostic = class_agnostic
        self.convs = nn.ModuleList()
        width = in_channels
        for _ in range(num_convs):
            self.convs.append(
                ConvModule(
                    width,
                    conv_out_channels,
                    conv_kernel_size,
                    padding=(conv_kernel_size - 1) // 2,
                    conv=conv,
                    norm=norm,
                )
            )
            width = conv_out_channels
        self.conv_res = ConvModule(width, width, 1, conv=conv, norm=norm) if with_conv_res else None
        self.upsample: nn.Module | None
        if upsample is None:
            self.upsample = None
        elif not isinstance(upsample, str):
            self.upsample = upsample(width, scale_factor)
        elif upsample == "deconv":
            self.upsample = nn.ConvTranspose2d(width, conv_out_channels, scale_factor, stride=scale_factor)
            width = conv_out_channels
        elif upsample in ("nearest", "bilinear"):
            corners = None if upsample == "nearest" else False
            self.upsample = nn.Upsample(scale_factor=scale_factor, mode=upsample, align_corners=corners)
        else:
            raise ValueError(f"upsample must be 'deconv', 'nearest', 'bilinear' or None, not {upsample!r}")
        channels = 1 if class_agnostic else num_classes
        self.conv_logits = nn.Conv2d(width, channels, 1) if predictor is None else predictor(width, channels)
        self.init_weights()

    def init_weights(self) -> None:
        """Kaiming's normal distribution (fan out) for the upsampling and the last convolution, no bias."""
        for layer in (self.upsample, self.conv_logits):
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer.bias is not None:
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Mask logits [R, C, S * scale_factor, S * scale_factor], or [R, 1, ...] if class-agnostic.

        Args:
            x: pooled features [R, in_channels, S, S].
            valid: which rows hold a RoI, bool [R]; None if all do. Only batch statistics ask for it.
        """
        return self.predict(self.trunk(x, valid))

    def trunk(self, x: Tensor, valid: Tensor | None = None, previous: Tensor | None = None) -> Tensor:
        """What the convolutions find, [R, conv_out_channels, S, S]; `previous` is the same of the mask head before."""
        if previous is not None:
            if self.conv_res is None:
                raise ValueError("this mask head takes nothing from another one: build it with with_conv_res=True")
            x = x + conv_valid(self.conv_res, previous, valid)
        for conv in self.convs:
            x = conv_valid(conv, x, valid)
        return x

    def predict(self, x: Tensor) -> Tensor:
        """Mask logits from what `trunk` found."""
        if self.upsample is not None:
            x = self.upsample(x)
            if isinstance(self.upsample, nn.ConvTranspose2d):
                x = x.relu()
        return self.conv_logits(x)
