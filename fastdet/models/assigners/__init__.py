"""Assigners: which candidate boxes answer for which objects."""

from fastdet.models.assigners.assignment import BACKGROUND, IGNORE, Assignment
from fastdet.models.assigners.atss import ATSSAssigner
from fastdet.models.assigners.fovea import FoveaAssigner
from fastdet.models.assigners.grid import GridAssigner
from fastdet.models.assigners.max_iou import MaxIoUAssigner
from fastdet.models.assigners.nothing import NoAssigner
from fastdet.models.assigners.of_priors import PriorAssigner
from fastdet.models.assigners.point import PointAssigner
from fastdet.models.assigners.regress_range import RegressRangeAssigner
from fastdet.models.assigners.scene import BoxCoder, DenseAssigner, DenseScene
from fastdet.models.assigners.sim_ota import SimOTAAssigner
from fastdet.models.assigners.task_aligned import TaskAlignedAssigner

__all__ = [
    "BACKGROUND",
    "IGNORE",
    "ATSSAssigner",
    "Assignment",
    "BoxCoder",
    "DenseAssigner",
    "DenseScene",
    "FoveaAssigner",
    "GridAssigner",
    "MaxIoUAssigner",
    "NoAssigner",
    "PointAssigner",
    "PriorAssigner",
    "RegressRangeAssigner",
    "SimOTAAssigner",
    "TaskAlignedAssigner",
]
