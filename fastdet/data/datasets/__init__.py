"""Datasets: what is in the annotation files, image by image."""

from fastdet.registry import DATASETS

from .base import Dataset, RecordDataset
from .coco import CocoDataset
from .coco_like import (
    CityscapesDataset,
    DeepFashionDataset,
    LVISV05Dataset,
    LVISV1Dataset,
    Objects365V1Dataset,
    Objects365V2Dataset,
)
from .names import COCO_CLASSES, VOC_CLASSES
from .openimages import OpenImagesChallengeDataset, OpenImagesDataset
from .voc import VOCDataset, WIDERFaceDataset
from .wrappers import ClassBalancedDataset, ConcatDataset, MultiImageMixDataset, RepeatDataset

__all__ = [
    "COCO_CLASSES",
    "VOC_CLASSES",
    "CityscapesDataset",
    "ClassBalancedDataset",
    "CocoDataset",
    "ConcatDataset",
    "Dataset",
    "DeepFashionDataset",
    "LVISV05Dataset",
    "LVISV1Dataset",
    "MultiImageMixDataset",
    "Objects365V1Dataset",
    "Objects365V2Dataset",
    "OpenImagesChallengeDataset",
    "OpenImagesDataset",
    "RecordDataset",
    "RepeatDataset",
    "VOCDataset",
    "WIDERFaceDataset",
]

DATASETS.refuse(
    "DSDLDetDataset", "DSDL's own package reads it: convert the set to COCO's format and name a CocoDataset"
)
