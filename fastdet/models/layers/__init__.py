"""Small layers that backbones, necks and heads share."""

from fastdet.models.layers.activation import ActFactory
from fastdet.models.layers.carafe import CarafeUpsample
from fastdet.models.layers.context import ContextBlock
from fastdet.models.layers.conv_module import ConvFactory, ConvModule, DepthwiseSeparableConv
from fastdet.models.layers.deform_conv import DeformConv2d, DeformConv2dPack, ModulatedDeformConv2dPack, kernel_cells
from fastdet.models.layers.generalized_attention import GeneralizedAttention
from fastdet.models.layers.init import (
    Initialiser,
    init_caffe2_xavier,
    init_kaiming,
    init_normal,
    init_torch,
    init_truncated_normal,
    init_xavier,
    keep_init,
    prior_bias,
)
from fastdet.models.layers.non_local import NonLocal2d
from fastdet.models.layers.norm import NormFactory
from fastdet.models.layers.plugin import BlockPlugin, PluginFactory
from fastdet.models.layers.same_padding import SamePaddingConv2d
from fastdet.models.layers.squeeze import ChannelGate, DynamicReLU
from fastdet.models.layers.standardised_conv import ConvAWS2d, ConvWS2d
from fastdet.models.layers.switchable_conv import SwitchableConv2d

__all__ = [
    "ActFactory",
    "BlockPlugin",
    "CarafeUpsample",
    "ChannelGate",
    "ContextBlock",
    "ConvAWS2d",
    "ConvFactory",
    "ConvModule",
    "ConvWS2d",
    "DeformConv2d",
    "DeformConv2dPack",
    "DepthwiseSeparableConv",
    "DynamicReLU",
    "GeneralizedAttention",
    "Initialiser",
    "ModulatedDeformConv2dPack",
    "NonLocal2d",
    "NormFactory",
    "PluginFactory",
    "SamePaddingConv2d",
    "SwitchableConv2d",
    "init_caffe2_xavier",
    "init_kaiming",
    "init_normal",
    "init_torch",
    "init_truncated_normal",
    "init_xavier",
    "keep_init",
    "kernel_cells",
    "prior_bias",
]
