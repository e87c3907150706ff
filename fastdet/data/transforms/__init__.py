"""Transforms of samples, by MMDetection 3.x's names; importing this package registers them."""

from .affine import RandomAffine
from .choice import RandomChoice
from .color import Normalize, PhotoMetricDistortion, YOLOXHSVRandomAug
from .copy_paste import CopyPaste
from .crop import RandomCrop
from .filtering import FilterAnnotations
from .flip import RandomFlip
from .loading import LoadAnnotations, LoadImageFromFile, LoadProposals
from .mixup import CachedMixUp, MixUp
from .mosaic import CachedMosaic, Mosaic
from .pad import Pad
from .resize import FixScaleResize, RandomChoiceResize, RandomResize, Resize
from .ssd import Expand, MinIoURandomCrop

__all__ = [
    "CachedMixUp",
    "CachedMosaic",
    "CopyPaste",
    "Expand",
    "FilterAnnotations",
    "FixScaleResize",
    "LoadAnnotations",
    "LoadImageFromFile",
    "LoadProposals",
    "MinIoURandomCrop",
    "MixUp",
    "Mosaic",
    "Normalize",
    "Pad",
    "PhotoMetricDistortion",
    "RandomAffine",
    "RandomChoice",
    "RandomChoiceResize",
    "RandomCrop",
    "RandomFlip",
    "RandomResize",
    "Resize",
    "YOLOXHSVRandomAug",
]
