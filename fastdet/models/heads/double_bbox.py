"""DoubleConvFCBBoxHead: linear layers for the class, convolutions for the box.

Letters: R RoIs, C classes, S side of the pooled square.
"""

from itertools import pairwise

from torch import Tensor, nn

from fastdet.models.heads.bbox import BBoxOutput
from fastdet.models.layers import ConvFactory, ConvModule, NormFactory
from fastdet.models.layers.masked_norm import conv_valid, normalise_valid
from fastdet.models.layers.norm import batch_norm
from fastdet.registry import HEADS


class _Widening(nn.Module):
    """A residual block that changes the number of channels. Keys: conv1, conv2, conv_identity."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        norm = batch_norm()
        self.conv1 = ConvModule(in_channels, in_channels, 3, padding=1, norm=norm)
        self.conv2 = ConvModule(in_channels, out_channels, 1, norm=norm, act=False)
        self.conv_identity = ConvModule(in_channels, out_channels, 1, norm=norm, act=False)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """[R, in_channels, S, S] -> [R, out_channels, S, S]."""
        out = conv_valid(self.conv2, conv_valid(self.conv1, x, valid), valid)
        return (out + conv_valid(self.conv_identity, x, valid)).relu()


class _Bottleneck(nn.Module):
    """A ResNet's bottleneck of one size, its norms blind to slots without a RoI. Keys: conv1, bn1 and so on."""

    def __init__(self, channels: int, conv: ConvFactory | None, norm: NormFactory) -> None:
        super().__init__()
        make, inner = conv or nn.Conv2d, channels // 4
        self.names = tuple((f"conv{i}", f"{norm.name}{i}") for i in (1, 2, 3))
        convs = (
            make(channels, inner, 1, bias=False),
            make(inner, inner, 3, padding=1, bias=False),
            make(inner, channels, 1, bias=False),
        )
        for (conv_name, norm_name), layer, width in zip(self.names, convs, (inner, inner, channels), strict=True):
            self.add_module(conv_name, layer)
            self.add_module(norm_name, norm(width))

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """[R, channels, S, S] -> the same shape."""
        out = x
        for index, (conv, norm) in enumerate(self.names):
            out = out.relu() if index else out
            out = normalise_valid(self.get_submodule(norm), self.get_submodule(conv)(out), valid)
        return (out + x).relu()


@HEADS.register()
class DoubleConvFCBBoxHead(nn.Module):
    """Scores from linear layers on the RoI's features, deltas from residual blocks on those of an enlarged RoI.

    Source: Wu et al., Rethinking Classification and Localization for Object Detection, section 4.1.

    Args:
        num_classes: without the background.
        in_channels: of the pooled features.
        roi_feat_size: side of the pooled square.
        num_convs: bottlenecks of the box branch, after the block that widens it.
        num_fcs: linear layers of the class branch.
        reg_class_agnostic: one box for all classes.
        conv, norm: factories of the bottlenecks' layers.
    """

    def __init__(
        self,
        num_classes: int = 80,
        in_channels: int = 256,
        *,
        roi_feat_size: int = 7,
        num_convs: int = 4,
        num_fcs: int = 2,
        conv_out_channels: int = 1024,
        fc_out_channels: int = 1024,
        reg_class_agnostic: bool = False,
        conv: ConvFactory | None = None,
        norm: NormFactory | None = None,
    ) -> None:
        super().__init__()
        if num_convs < 1 or num_fcs < 1:
            raise ValueError(f"num_convs ({num_convs}) and num_fcs ({num_fcs}) must be at least 1")
        self.num_classes = num_classes
        self.reg_class_agnostic = reg_class_agnostic
        self.res_block = _Widening(in_channels, conv_out_channels)
        self.conv_branch = nn.ModuleList(
            _Bottleneck(conv_out_channels, conv, norm or batch_norm()) for _ in range(num_convs)
        )
        widths = [in_channels * roi_feat_size**2] + [fc_out_channels] * num_fcs
        self.fc_branch = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.fc_cls = nn.Linear(fc_out_channels, num_classes + 1)
        self.fc_reg = nn.Linear(conv_out_channels, 4 if reg_class_agnostic else 4 * num_classes)
        self.init_weights()

    def init_weights(self) -> None:
        """Xavier (uniform) for the linear layers, a normal distribution of 0.01 and 0.001 for the predictors."""
        for linear in self.fc_branch:
            assert isinstance(linear, nn.Linear)
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        for linear, std in ((self.fc_cls, 0.01), (self.fc_reg, 0.001)):
            nn.init.normal_(linear.weight, std=std)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, x_reg: Tensor, valid: Tensor | None = None) -> BBoxOutput:
        """Scores and deltas.

        Args:
            x: features of the RoIs, [R, in_channels, S, S].
            x_reg: features of the enlarged RoIs, of the same shape.
            valid: which rows hold a RoI, bool [R]; None if all do. Only batch statistics ask for it.
        """
        x_reg = self.res_block(x_reg, valid)
        for block in self.conv_branch:
            x_reg = block(x_reg, valid)
        x = x.flatten(1)
        for linear in self.fc_branch:
            x = linear(x).relu()
        return BBoxOutput(self.fc_cls(x), self.fc_reg(x_reg.mean(dim=(2, 3))))
