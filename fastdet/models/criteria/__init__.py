"""Criteria: losses of predictions whose objects are known."""

from fastdet.models.criteria.anchor import AnchorCriterion
from fastdet.models.criteria.bags import BagCriterion
from fastdet.models.criteria.bucket import BucketAnchorCriterion, BucketRoICriterion
from fastdet.models.criteria.cells import CellCriterion
from fastdet.models.criteria.centerness import CenternessCriterion
from fastdet.models.criteria.distribution import DistributionCriterion
from fastdet.models.criteria.grid import GridCriterion
from fastdet.models.criteria.guide import GuideCriterion
from fastdet.models.criteria.hard_negative import HardNegativeCriterion
from fastdet.models.criteria.mask_iou import MaskIoUCriterion
from fastdet.models.criteria.objectness import ObjectnessCriterion
from fastdet.models.criteria.plain import PlainCriterion
from fastdet.models.criteria.probabilistic import ProbabilisticCriterion
from fastdet.models.criteria.refined import RefinedPointsCriterion
from fastdet.models.criteria.roi import MaskCriterion, RoICriterion
from fastdet.models.criteria.semantic import SemanticCriterion
from fastdet.models.criteria.task_aligned import TaskAlignedCriterion
from fastdet.models.criteria.varifocal import VarifocalCriterion

__all__ = [
    "AnchorCriterion",
    "BagCriterion",
    "BucketAnchorCriterion",
    "BucketRoICriterion",
    "CellCriterion",
    "CenternessCriterion",
    "DistributionCriterion",
    "GridCriterion",
    "GuideCriterion",
    "HardNegativeCriterion",
    "MaskCriterion",
    "MaskIoUCriterion",
    "ObjectnessCriterion",
    "PlainCriterion",
    "ProbabilisticCriterion",
    "RefinedPointsCriterion",
    "RoICriterion",
    "SemanticCriterion",
    "TaskAlignedCriterion",
    "VarifocalCriterion",
]
