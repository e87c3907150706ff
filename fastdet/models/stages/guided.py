"""GuidedAnchorStage: a dense stage whose anchors the head itself describes.

Letters: B images, P cells of all levels (one anchor a cell), A approximations of a cell.
"""

import torch
from torch import Tensor, nn

from fastdet.models.assigners import BoxCoder, MaxIoUAssigner
from fastdet.models.coders import DeltaXYWHBBoxCoder
from fastdet.models.criteria import AnchorCriterion, GuideCriterion
from fastdet.models.heads.guided_anchor import GuidedOutput
from fastdet.models.postprocess.dense import DensePostprocess, ProposalPostprocess
from fastdet.models.priors import AnchorGenerator
from fastdet.models.samplers import PseudoSampler, RandomSampler
from fastdet.models.stages.dense import usable, within
from fastdet.registry import STAGES
from fastdet.structures import DenseOutput, Detections, Targets

UNTRAINED = "this detector was built without train_cfg: it has no assigner and no losses"
WH_RATIO_CLIP = 1e-6  # an anchor may be a million times larger or smaller than its square


@STAGES.register()
class AnchorGuide(nn.Module):
    """Anchors from predicted shapes, and what locations and shapes are trained for.

    Each cell has a square; its width and height times the exponentials of the predicted shape are the anchor's. For
    training, a cell overlaps with an object as much as the best of a few anchors of fixed shape, its approximations.

    Source: Wang et al., Region Proposal by Guided Anchoring, sections 3.2, 3.3 and 3.5.

    Args:
        squares: one anchor a cell.
        approximations: A anchors a cell.
        coder: of the shapes.
        assigner, sampler, criterion: of training the shapes; None for a detector that is not trained.
        loc_filter_thr: prediction looks at cells whose location has at least this probability.
        allowed_border: training leaves out cells all of whose approximations reach further than this over the image's
            border, in pixels, and anchors that do; negative: none are left out.
    """

    def __init__(
        self,
        squares: AnchorGenerator,
        approximations: AnchorGenerator,
        coder: DeltaXYWHBBoxCoder,
        *,
        assigner: MaxIoUAssigner | None = None,
        sampler: RandomSampler | PseudoSampler | None = None,
        criterion: GuideCriterion | None = None,
        loc_filter_thr: float = 0.01,
        allowed_border: float = -1,
    ) -> None:
        super().__init__()
        self.squares = squares
        self.approximations = approximations
        self.coder = coder
        self.assigner = assigner
        self.sampler = sampler
        self.criterion = criterion
        self.loc_filter_thr = loc_filter_thr
        self.allowed_border = allowed_border

    def anchors(self, guide: DenseOutput) -> Tensor:
        """The anchors [B, P, 4] of predicted shapes, without gradient."""
        return self._shaped(self.squares(guide.level_sizes), guide.box_deltas.detach())

    def likely(self, guide: DenseOutput) -> Tensor:
        """The cells that prediction looks at: bool [B, P]."""
        return guide.cls_logits[..., 0].float().sigmoid() >= self.loc_filter_thr

    def candidates(self, guide: DenseOutput, sizes: Tensor, padded_sizes: Tensor) -> Tensor:
        """The cells that take part in training, by images' sizes [B, 2] without and with padding: bool [B, P]."""
        valid = usable(self.approximations, guide.level_sizes, sizes, padded_sizes, self.allowed_border)
        return valid.unflatten(1, (-1, self.approximations.num_anchors)).any(-1)

    def loss(
        self, guide: DenseOutput, candidates: Tensor, targets: Targets, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """The losses of locations and shapes.

        Raises:
            ValueError: the guide was built without the parts that training needs.
        """
        if self.assigner is None or self.sampler is None or self.criterion is None:
            raise ValueError(UNTRAINED)
        squares = self.squares(guide.level_sizes)
        shaped = self.approximations(guide.level_sizes).unflatten(0, (-1, self.approximations.num_anchors))
        assignment = self.assigner(squares, targets, candidates=candidates, approximations=shaped)
        selection = self.sampler(assignment, generator=generator)
        anchors = self._shaped(selection.take(squares), selection.take(guide.box_deltas))
        strides = [stride for stride, _ in self.squares.strides]
        return self.criterion(guide, anchors, strides, selection, targets)

    def _shaped(self, squares: Tensor, shapes: Tensor) -> Tensor:
        """Squares [..., 4] with the given shapes [..., 2]."""
        with torch.autocast(squares.device.type, enabled=False):
            shapes = shapes.float()
            deltas = torch.cat((torch.zeros_like(shapes), shapes), dim=-1)
            return self.coder.decode(squares, deltas, wh_ratio_clip=WH_RATIO_CLIP)


@STAGES.register()
class GuidedAnchorStage(nn.Module):
    """Coder, assigner, sampler, criterion and post-processing around guided anchors. Holds no parameters.

    Args:
        guide: makes the anchors.
        coder: of the boxes.
        assigner, sampler, criterion: of training the boxes; None for a detector that is not trained.
        train_postprocess: instead of `postprocess` in training mode (proposals); None: the same.
    """

    def __init__(
        self,
        guide: AnchorGuide,
        coder: BoxCoder,
        postprocess: DensePostprocess | ProposalPostprocess,
        *,
        assigner: MaxIoUAssigner | None = None,
        sampler: RandomSampler | PseudoSampler | None = None,
        criterion: AnchorCriterion | None = None,
        train_postprocess: DensePostprocess | ProposalPostprocess | None = None,
    ) -> None:
        super().__init__()
        self.guide = guide
        self.coder = coder
        self.assigner = assigner
        self.sampler = sampler
        self.criterion = criterion
        self.postprocess = postprocess
        self.train_postprocess = train_postprocess or postprocess

    def loss(
        self,
        output: GuidedOutput,
        sizes: Tensor,
        padded_sizes: Tensor,
        targets: Targets,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Named losses, summed over levels; arguments as DenseStage's.

        Raises:
            ValueError: the stage was built without the parts that training needs.
        """
        if self.assigner is None or self.sampler is None or self.criterion is None:
            raise ValueError(UNTRAINED)
        candidates = self.guide.candidates(output.guide, sizes, padded_sizes)
        losses = self.guide.loss(output.guide, candidates, targets, generator)
        anchors, border = self.guide.anchors(output.guide), self.guide.allowed_border
        if border >= 0:
            candidates = candidates & within(anchors, sizes, border)
        assignment = self.assigner(anchors, targets, candidates=candidates)
        selection = self.sampler(assignment, generator=generator)
        return self.criterion(output.boxes, anchors, self.coder, selection, targets) | losses

    def predict(self, output: GuidedOutput, sizes: Tensor) -> Detections:
        """Detections, or proposals, of fixed shape; without gradient."""
        anchors = self.guide.anchors(output.guide)
        if self.training:
            return self.train_postprocess(output.boxes, anchors, self.coder, sizes)
        return self.postprocess(output.boxes, anchors, self.coder, sizes, keep=self.guide.likely(output.guide))
