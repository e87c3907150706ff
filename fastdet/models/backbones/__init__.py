"""Backbones: pixels to feature levels."""

from fastdet.models.backbones import res2net, resnest, trident
from fastdet.models.backbones.convnext import ConvNeXt
from fastdet.models.backbones.csp_darknet import CSPNet, csp_darknet, csp_next
from fastdet.models.backbones.csp_resnet import CSPResNet
from fastdet.models.backbones.darknet import Darknet
from fastdet.models.backbones.efficientnet import EfficientNet
from fastdet.models.backbones.hrnet import HRNet, HRStage
from fastdet.models.backbones.mobilenet_v2 import MobileNetV2
from fastdet.models.backbones.mobilenet_v3 import MobileNetV3
from fastdet.models.backbones.pvt import PyramidVisionTransformer
from fastdet.models.backbones.regnet import RegNet, RegNetArch
from fastdet.models.backbones.resnet import ResNet
from fastdet.models.backbones.ssd_vgg import SSDVGG
from fastdet.models.backbones.swin import SwinTransformer
from fastdet.models.backbones.timm_backbone import TIMMBackbone
from fastdet.models.backbones.vit import VisionTransformer

__all__ = [
    "SSDVGG",
    "CSPNet",
    "CSPResNet",
    "ConvNeXt",
    "Darknet",
    "EfficientNet",
    "HRNet",
    "HRStage",
    "MobileNetV2",
    "MobileNetV3",
    "PyramidVisionTransformer",
    "RegNet",
    "RegNetArch",
    "ResNet",
    "SwinTransformer",
    "TIMMBackbone",
    "VisionTransformer",
    "csp_darknet",
    "csp_next",
    "res2net",
    "resnest",
    "trident",
]
