"""Backbones: pixels to feature levels."""

from fastdet.models.backbones import res2net, resnest
from fastdet.models.backbones.csp_darknet import CSPNet, csp_darknet, csp_next
from fastdet.models.backbones.darknet import Darknet
from fastdet.models.backbones.hrnet import HRNet, HRStage
from fastdet.models.backbones.mobilenet_v2 import MobileNetV2
from fastdet.models.backbones.regnet import RegNet, RegNetArch
from fastdet.models.backbones.resnet import ResNet
from fastdet.models.backbones.ssd_vgg import SSDVGG

__all__ = [
    "SSDVGG",
    "CSPNet",
    "Darknet",
    "HRNet",
    "HRStage",
    "MobileNetV2",
    "RegNet",
    "RegNetArch",
    "ResNet",
    "csp_darknet",
    "csp_next",
    "res2net",
    "resnest",
]
