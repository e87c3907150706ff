"""Box coders: boxes as regression targets and back."""

from fastdet.models.coders.delta_xywh import DeltaXYWHBBoxCoder

__all__ = ["DeltaXYWHBBoxCoder"]
