"""Transforms of samples, by MMDetection 3.x's names; importing this package registers them."""

from .color import Normalize, PhotoMetricDistortion
from .crop import RandomCrop
from .filtering import FilterAnnotations
from .flip import RandomFlip
from .loading import LoadAnnotations, LoadImageFromFile
from .pad import Pad
from .resize import RandomChoiceResize, RandomResize, Resize

__all__ = [
    "FilterAnnotations",
    "LoadAnnotations",
    "LoadImageFromFile",
    "Normalize",
    "Pad",
    "PhotoMetricDistortion",
    "RandomChoiceResize",
    "RandomCrop",
    "RandomFlip",
    "RandomResize",
    "Resize",
]
