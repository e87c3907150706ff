"""Backbones: pixels to feature levels."""

from fastdet.models.backbones.resnet import ResNet

__all__ = ["ResNet"]
