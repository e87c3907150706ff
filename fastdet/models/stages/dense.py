"""DenseStage: what a dense head is trained for, and how its predictions are read.

Letters: B images, P priors.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastdet.models.assigners import BoxCoder, MaxIoUAssigner
from fastdet.models.criteria import AnchorCriterion, BucketAnchorCriterion, HardNegativeCriterion
from fastdet.models.postprocess.dense import DensePostprocess, ProposalPostprocess
from fastdet.models.priors import AnchorGenerator, SSDAnchorGenerator
from fastdet.models.samplers import PseudoSampler, RandomSampler
from fastdet.registry import STAGES
from fastdet.structures import DenseOutput, Detections, Targets


@STAGES.register()
class DenseStage(nn.Module):
    """Priors, coder, assigner, sampler, criterion and post-processing around the output of a dense head.

    Holds no parameters: the head has them. The module exists for its buffers and its mode.

    Args:
        train_postprocess: instead of `postprocess` in training mode (proposals); None: the same.
        allowed_border: training leaves out anchors that reach further than this over the image's border, in pixels;
            negative: none are left out.
        approximations: for training, boxes that stand for each prior, in its cell; None: the priors themselves.
    """

    def __init__(
        self,
        priors: AnchorGenerator | SSDAnchorGenerator,
        coder: BoxCoder,
        postprocess: DensePostprocess | ProposalPostprocess,
        *,
        assigner: MaxIoUAssigner | None = None,
        sampler: RandomSampler | PseudoSampler | None = None,
        criterion: AnchorCriterion | BucketAnchorCriterion | HardNegativeCriterion | None = None,
        train_postprocess: DensePostprocess | ProposalPostprocess | None = None,
        allowed_border: float = -1,
        approximations: AnchorGenerator | None = None,
    ) -> None:
        super().__init__()
        self.priors = priors
        self.coder = coder
        self.assigner = assigner
        self.sampler = sampler
        self.criterion = criterion
        self.postprocess = postprocess
        self.train_postprocess = train_postprocess or postprocess
        self.allowed_border = allowed_border
        self.approximations = approximations

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
            generator: of the sampler.

        Raises:
            ValueError: the stage was built without the parts that training needs.
        """
        if self.assigner is None or self.sampler is None or self.criterion is None:
            raise ValueError("this detector was built without train_cfg: it has no assigner and no losses")
        priors = self.priors(output.level_sizes)
        stand_ins = self.approximations or self.priors
        candidates = usable(stand_ins, output.level_sizes, sizes, padded_sizes, self.allowed_border)
        if self.approximations is None:
            assignment = self.assigner(priors, targets, candidates=candidates)
        else:
            number = self.approximations.num_anchors
            candidates = candidates.unflatten(1, (-1, number)).any(-1)
            boxes = self.approximations(output.level_sizes).unflatten(0, (-1, number))
            assignment = self.assigner(priors, targets, candidates=candidates, approximations=boxes)
        selection = self.sampler(assignment, generator=generator)
        return self.criterion(output, priors, self.coder, selection, targets)

    def predict(self, output: DenseOutput, sizes: Tensor) -> Detections:
        """Detections, or proposals, of fixed shape; without gradient."""
        postprocess = self.train_postprocess if self.training else self.postprocess
        return postprocess(output, self.priors(output.level_sizes), self.coder, sizes)


def usable(
    generator: AnchorGenerator | SSDAnchorGenerator,
    level_sizes: Sequence[tuple[int, int]],
    sizes: Tensor,
    padded_sizes: Tensor,
    border: float,
) -> Tensor:
    """Anchors that take part in training: bool [B, P].

    Their cells are inside the images' padded sizes [B, 2]; they reach over the border of sizes [B, 2] by at most so
    many pixels, if it is not negative.
    """
    valid = generator.valid(level_sizes, padded_sizes)
    return valid if border < 0 else valid & within(generator(level_sizes), sizes, border)


def within(priors: Tensor, sizes: Tensor, border: float) -> Tensor:
    """Priors [P, 4] that reach over the border of images of sizes [B, 2] by at most `border` pixels: bool [B, P]."""
    height, width = sizes[:, 0, None], sizes[:, 1, None]
    x1, y1, x2, y2 = priors.unbind(-1)
    return (x1 >= -border) & (y1 >= -border) & (x2 < width + border) & (y2 < height + border)
