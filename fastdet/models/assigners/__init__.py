"""Assigners: which candidate boxes answer for which objects."""

from fastdet.models.assigners.assignment import BACKGROUND, IGNORE, Assignment
from fastdet.models.assigners.max_iou import MaxIoUAssigner

__all__ = ["BACKGROUND", "IGNORE", "Assignment", "MaxIoUAssigner"]
