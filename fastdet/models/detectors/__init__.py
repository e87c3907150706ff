"""Detectors: compositions of backbone, neck, heads and stages."""

from fastdet.models.detectors.fast_rcnn import FastRCNN
from fastdet.models.detectors.single_stage import SingleStageDetector
from fastdet.models.detectors.two_stage import TwoStageDetector

__all__ = ["FastRCNN", "SingleStageDetector", "TwoStageDetector"]
