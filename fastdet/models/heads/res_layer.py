"""ResLayer: the last stage of a ResNet as layers between pooling and the heads of the second stage.

Letters: R RoIs, C channels, S side of the pooled square.
"""

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fastdet.models.backbones.resnet import Style, residual_stage, stage_channels
from fastdet.models.layers import ConvFactory, NormFactory, init_kaiming
from fastdet.models.layers.norm import batch_norm
from fastdet.registry import HEADS


@HEADS.register()
class ResLayer(nn.Module):
    """One stage of a ResNet, run on each pooled square. Key: layer4 for stage 3.

    Source: He et al., Mask R-CNN, figure 4 (left): the C4 variant.

    Args:
        depth: of the ResNet.
        stage: 1 to 3.
        base_channels: channels inside the blocks of the ResNet's first stage.
        stride, dilation, style: of its blocks.
        norm_eval: batch norms use their stored statistics in training too; those of RoIs need it, because slots
            without a RoI would count in the statistics.

    Raises:
        ValueError: trained statistics were asked for, or an unknown depth or stage.
    """

    def __init__(
        self,
        depth: int,
        *,
        stage: int = 3,
        base_channels: int = 64,
        stride: int = 2,
        dilation: int = 1,
        style: Style = "pytorch",
        conv: ConvFactory | None = None,
        norm: NormFactory | None = None,
        norm_eval: bool = True,
    ) -> None:
        super().__init__()
        if not norm_eval:
            raise ValueError("ResLayer takes norm_eval=True only: padded slots would count in batch statistics")
        in_channels, channels = stage_channels(depth, stage, base_channels)
        self.stage_name = f"layer{stage + 1}"
        blocks = residual_stage(
            depth,
            stage,
            in_channels,
            channels,
            stride=stride,
            dilation=dilation,
            style=style,
            avg_down=False,
            conv=conv or nn.Conv2d,
            norm=norm or batch_norm(),
        )
        self.add_module(self.stage_name, blocks)
        init_kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        """[R, C, S, S] -> [R, C', S', S']."""
        return self.get_submodule(self.stage_name)(x)

    def train(self, mode: bool = True) -> "ResLayer":
        """Training mode, but for batch norms."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self
