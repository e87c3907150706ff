"""Datasets: what is in the annotation files, image by image."""

from .base import Dataset, RecordDataset
from .coco import CocoDataset
from .names import COCO_CLASSES, VOC_CLASSES
from .voc import VOCDataset
from .wrappers import ConcatDataset, RepeatDataset

__all__ = [
    "COCO_CLASSES",
    "VOC_CLASSES",
    "CocoDataset",
    "ConcatDataset",
    "Dataset",
    "RecordDataset",
    "RepeatDataset",
    "VOCDataset",
]
