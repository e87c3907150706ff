"""Necks: feature levels to feature levels."""

from fastdet.models.necks.fpn import FPN

__all__ = ["FPN"]
