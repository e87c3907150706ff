"""Criteria: losses of predictions whose objects are known."""

from fastdet.models.criteria.anchor import AnchorCriterion
from fastdet.models.criteria.roi import MaskCriterion, RoICriterion
from fastdet.models.criteria.semantic import SemanticCriterion

__all__ = ["AnchorCriterion", "MaskCriterion", "RoICriterion", "SemanticCriterion"]
