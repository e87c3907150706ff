"""Small layers that backbones, necks and heads share."""

from fastdet.models.layers.conv_module import ConvFactory, ConvModule
from fastdet.models.layers.init import init_kaiming, init_normal, init_xavier, prior_bias
from fastdet.models.layers.norm import NormFactory

__all__ = ["ConvFactory", "ConvModule", "NormFactory", "init_kaiming", "init_normal", "init_xavier", "prior_bias"]
