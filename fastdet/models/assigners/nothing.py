"""No assignment, for criteria that match priors and objects on their own."""

import torch

from fastdet.models.assigners.assignment import BACKGROUND, Assignment
from fastdet.models.assigners.scene import DenseScene
from fastdet.registry import ASSIGNERS
from fastdet.structures import Targets


@ASSIGNERS.register()
class NoAssigner:
    """Every prior is background."""

    def __call__(self, scene: DenseScene, targets: Targets) -> Assignment:
        """The background everywhere."""
        shape, device = (scene.batch, len(scene.priors)), scene.priors.device
        background = torch.full(shape, BACKGROUND, dtype=torch.int64, device=device)
        return Assignment(background, torch.zeros(shape, device=device))
