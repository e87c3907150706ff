"""DirectStage: what a dense head is trained for where every prior answers and none is sampled.

Letters: B images, P priors.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from fastdet.models.assigners import Assignment, BoxCoder, DenseAssigner, DenseScene
from fastdet.models.priors import AnchorGenerator
from fastdet.models.stages.dense import within
from fastdet.registry import STAGES
from fastdet.structures import DenseOutput, Detections, Targets


class DenseCriterion(Protocol):
    """Losses of a head whose priors know their objects."""

    def __call__(self, scene: DenseScene, assignment: Assignment, targets: Targets) -> dict[str, Tensor]: ...


class Postprocess(Protocol):
    """Makes detections of fixed shape."""

    def __call__(self, output: DenseOutput, priors: Tensor, coder: BoxCoder, sizes: Tensor) -> Detections: ...


@STAGES.register()
class DirectStage(nn.Module):
    """Priors, coder, assigner, criterion and post-processing; the assigner may look at levels and predictions.

    Holds no parameters: the head has them. Points are priors whose box is their cell.

    Args:
        assigner, criterion: of training; None for a detector that is not trained.
        padding_counts: priors in an image's padding are background; else they count nowhere.
        allowed_border: training leaves out priors that reach further than this over the image's border, in pixels;
            negative: none are left out.
    """

    def __init__(
        self,
        priors: AnchorGenerator,
        coder: BoxCoder,
        postprocess: Postprocess,
        *,
        assigner: DenseAssigner | None = None,
        criterion: DenseCriterion | None = None,
        padding_counts: bool = False,
        allowed_border: float = -1,
    ) -> None:
        super().__init__()
        self.priors = priors
        self.coder = coder
        self.postprocess = postprocess
        self.assigner = assigner
        self.criterion = criterion
        self.padding_counts = padding_counts
        self.allowed_border = allowed_border

    def loss(
        self,
        output: DenseOutput,
        sizes: Tensor,
        padded_sizes: Tensor,
        targets: Targets,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Named losses, summed over levels.

        Args:
            sizes: [B, 2] (H, W) of the images.
            padded_sizes: [B, 2] what each image alone would be padded to.
            generator: not used: nothing is drawn.

        Raises:
            ValueError: the stage was built without the parts that training needs.
        """
        if self.assigner is None or self.criterion is None:
            raise ValueError("this detector was built without train_cfg: it has no assigner and no losses")
        priors = self.priors(output.level_sizes)
        candidates = None if self.padding_counts else self.priors.valid(output.level_sizes, padded_sizes)
        if self.allowed_border >= 0:
            near = within(priors, sizes, self.allowed_border)
            candidates = near if candidates is None else candidates & near
        scene = DenseScene(priors, candidates, self.coder, output)
        return self.criterion(scene, self.assigner(scene, targets), targets)

    def predict(self, output: DenseOutput, sizes: Tensor) -> Detections:
        """Detections of fixed shape; without gradient."""
        return self.postprocess(output, self.priors(output.level_sizes), self.coder, sizes)
