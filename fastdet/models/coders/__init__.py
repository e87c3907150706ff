"""Box coders: boxes as regression targets and back."""

from fastdet.models.coders.absolute import AbsoluteBBoxCoder
from fastdet.models.coders.bucketing import BucketingBBoxCoder
from fastdet.models.coders.cell import CellBBoxCoder
from fastdet.models.coders.delta_xywh import DeltaXYWHBBoxCoder
from fastdet.models.coders.distance import DistancePointBBoxCoder, DistributionBBoxCoder
from fastdet.models.coders.exponential import ExponentialBBoxCoder
from fastdet.models.coders.in_cell import YOLOBBoxCoder
from fastdet.models.coders.legacy import LegacyDeltaXYWHBBoxCoder

RoICoder = DeltaXYWHBBoxCoder | LegacyDeltaXYWHBBoxCoder | BucketingBBoxCoder
"""Coders of second stages."""

__all__ = [
    "AbsoluteBBoxCoder",
    "BucketingBBoxCoder",
    "CellBBoxCoder",
    "DeltaXYWHBBoxCoder",
    "DistancePointBBoxCoder",
    "DistributionBBoxCoder",
    "ExponentialBBoxCoder",
    "LegacyDeltaXYWHBBoxCoder",
    "RoICoder",
    "YOLOBBoxCoder",
]
