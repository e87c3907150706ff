"""Criteria: losses of predictions whose objects are known."""

from fastdet.models.criteria.anchor import AnchorCriterion

__all__ = ["AnchorCriterion"]
