"""Stages: what a head is trained for, and how its output is read."""

from fastdet.models.stages.cascade import CascadeStage
from fastdet.models.stages.dense import DenseStage
from fastdet.models.stages.direct import DirectStage
from fastdet.models.stages.dynamic import DynamicStage
from fastdet.models.stages.grid import GridStage
from fastdet.models.stages.guided import AnchorGuide, GuidedAnchorStage
from fastdet.models.stages.roi import RoIStage

__all__ = [
    "AnchorGuide",
    "CascadeStage",
    "DenseStage",
    "DirectStage",
    "DynamicStage",
    "GridStage",
    "GuidedAnchorStage",
    "RoIStage",
]
