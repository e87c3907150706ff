"""Prior generators: where dense heads look."""

from fastdet.models.priors.anchors import AnchorGenerator

__all__ = ["AnchorGenerator"]
