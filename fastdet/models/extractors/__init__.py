"""RoI extractors: features of one size for boxes of any size."""

from fastdet.models.extractors.generic import GenericRoIExtractor
from fastdet.models.extractors.single_level import SingleRoIExtractor

__all__ = ["GenericRoIExtractor", "SingleRoIExtractor"]
