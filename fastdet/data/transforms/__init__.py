"""Transforms of samples, by MMDetection 3.x's names; importing this package registers them."""

from fastdet.registry import TRANSFORMS

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

TRANSFORMS.refuse(
    "InstaBoost", "it draws from the global random states, and its package is no longer maintained: leave it out"
)
TRANSFORMS.refuse(
    "Albu", "albumentations is not wired: its random states are its own; register a transform that seeds it from `rng`"
)
