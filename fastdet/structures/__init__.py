"""What flows through fastdet: typed records with fixed fields."""

from fastdet.structures.batch import Batch, ImageMeta, MaskBuffer, Proposals, Targets
from fastdet.structures.dense import DenseOutput
from fastdet.structures.results import Detections, Instances, Result
from fastdet.structures.sample import ImageRecord, Sample, Segment

__all__ = [
    "Batch",
    "DenseOutput",
    "Detections",
    "ImageMeta",
    "ImageRecord",
    "Instances",
    "MaskBuffer",
    "Proposals",
    "Result",
    "Sample",
    "Segment",
    "Targets",
]
