"""Prior generators: where dense heads look."""

from fastdet.models.priors.anchors import AnchorGenerator
from fastdet.models.priors.sized import YOLOAnchorGenerator
from fastdet.models.priors.ssd import SSDAnchorGenerator

__all__ = [
    "AnchorGenerator",
    "SSDAnchorGenerator",
    "YOLOAnchorGenerator",
]
