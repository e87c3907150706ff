"""Small layers that backbones, necks and heads share."""

from fastdet.models.layers.activation import ActFactory
from fastdet.models.layers.conv_module import ConvFactory, ConvModule, DepthwiseSeparableConv
from fastdet.models.layers.deform_conv import DeformConv2d, DeformConv2dPack, ModulatedDeformConv2dPack
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
from fastdet.models.layers.norm import NormFactory
from fastdet.models.layers.standardised_conv import ConvWS2d

__all__ = [
    "ActFactory",
    "ConvFactory",
    "ConvModule",
    "ConvWS2d",
    "DeformConv2d",
    "DeformConv2dPack",
    "DepthwiseSeparableConv",
    "Initialiser",
    "ModulatedDeformConv2dPack",
    "NormFactory",
    "init_caffe2_xavier",
    "init_kaiming",
    "init_normal",
    "init_torch",
    "init_truncated_normal",
    "init_xavier",
    "keep_init",
    "prior_bias",
]
