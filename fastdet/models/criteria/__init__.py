"""Criteria: losses of predictions whose objects are known."""

from fastdet.models.criteria.anchor import AnchorCriterion
from fastdet.models.criteria.roi import MaskCriterion, RoICriterion

__all__ = ["AnchorCriterion", "MaskCriterion", "RoICriterion"]
