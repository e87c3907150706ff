"""An assigner of boxes where an assigner of a dense head is wanted."""

import torch

from fastdet.models import geometry
from fastdet.models.assigners.assignment import Assignment
from fastdet.models.assigners.max_iou import MaxIoUAssigner
from fastdet.models.assigners.scene import DenseScene
from fastdet.registry import ASSIGNERS
from fastdet.structures import Targets


@ASSIGNERS.register()
class PriorAssigner:
    """Assigns the priors by their own boxes.

    Args:
        assigner: of boxes.
        scale: the boxes are so much larger than the priors, around the same centres.
    """

    def __init__(self, assigner: MaxIoUAssigner, scale: float = 1.0) -> None:
        self.assigner = assigner
        self.scale = scale

    @torch.no_grad()
    def __call__(self, scene: DenseScene, targets: Targets) -> Assignment:
        """The object of each prior."""
        boxes = scene.priors
        if self.scale != 1:
            center, half = geometry.centers(boxes), (boxes[:, 2:] - boxes[:, :2]) * (self.scale / 2)
            boxes = torch.cat((center - half, center + half), dim=-1)
        return self.assigner(boxes, targets, candidates=scene.candidates)
