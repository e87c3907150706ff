"""Predictions of dense heads become detections or proposals.

Letters: B images, P priors, C classes, N candidates, K kept.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdet import ops
from fastdet.models.assigners import BoxCoder
from fastdet.models.postprocess.suppression import SoftNMS, Suppressor, hard_nms
from fastdet.models.readable import is_open, is_readable, needs_bodies
from fastdet.registry import POSTPROCESS
from fastdet.structures import DenseOutput, Detections

Ties = Literal["index", "sort"]


class Candidates(NamedTuple):
    """Pairs of prior and class that NMS looks at."""

    priors: Tensor  # [B, N] int64
    boxes: Tensor  # [B, N, 4] float32 xyxy, clipped to the image
    scores: Tensor  # [B, N] float32
    labels: Tensor  # [B, N] int64
    levels: Tensor  # [B, N] int64
    valid: Tensor  # [B, N] bool


@POSTPROCESS.register()
class DensePostprocess:
    """Detections: the best candidates of each level above a score, thinned by NMS within each class.

    Where the head says how good its boxes are, NMS and detections have the product of both scores.
    A candidate is a pair of prior and class. Of equal scores the earlier prior, then the lower class comes first.

    Args:
        max_per_img: K.
        iou_threshold: of the NMS.
        nms_pre: candidates a level at most; 0 or less: all.
        whole_priors: `nms_pre` counts priors by their best class, each with all of its classes.
        score_thr: candidates need a higher score.
        min_bbox_size: boxes need width and height above it; negative: no filter.
        class_agnostic: NMS over all classes together.
        use_sigmoid: scores are sigmoids of the logits; else softmax, with the background last and left out.
        soft_nms: takes the place of the NMS.
    """

    def __init__(
        self,
        max_per_img: int,
        iou_threshold: float,
        *,
        nms_pre: int = -1,
        whole_priors: bool = False,
        score_thr: float = 0.0,
        min_bbox_size: float = -1,
        class_agnostic: bool = False,
        use_sigmoid: bool = True,
        soft_nms: SoftNMS | None = None,
    ) -> None:
        self.max_per_img = at_least_one(max_per_img)
        self.iou_threshold = iou_threshold
        self.nms_pre = nms_pre
        self.whole_priors = whole_priors
        self.score_thr = score_thr
        self.min_bbox_size = min_bbox_size
        self.class_agnostic = class_agnostic
        self.use_sigmoid = use_sigmoid
        self.nms: Suppressor = hard_nms if soft_nms is None else soft_nms

    @torch.no_grad()
    def __call__(
        self, output: DenseOutput, priors: Tensor, coder: BoxCoder, sizes: Tensor, *, keep: Tensor | None = None
    ) -> Detections:
        """Detections [B, K] in pixels of the network input.

        Args:
            priors: [P, 4], or [B, P, 4].
            sizes: [B, 2] (H, W), to which boxes are clipped.
            keep: priors that are looked at, bool [B, P]; None: all.
        """
        code = box_code_of(coder)
        plain = self.use_sigmoid and keep is None and not self.whole_priors and self.nms is hard_nms
        if code is not None and plain:
            return fused(
                output,
                priors,
                code,
                sizes,
                iou_threshold=self.iou_threshold,
                max_output=self.max_per_img,
                limit=self.nms_pre,
                score_threshold=self.score_thr,
                min_size=self.min_bbox_size,
                rivals="all" if self.class_agnostic else "class",
            )
        return self._composed(output, priors, coder, sizes, keep)

    def _composed(
        self, output: DenseOutput, priors: Tensor, coder: BoxCoder, sizes: Tensor, keep: Tensor | None
    ) -> Detections:
        """The same step by step, for what the op has no argument for."""
        scores = _kept(_scores(output, self.use_sigmoid), keep)
        scores = torch.where(scores > self.score_thr, scores, -1.0)  # refused candidates come last
        found = candidates_of(
            output, scores, priors, coder, sizes, self.nms_pre, ops.top_indices, whole_priors=self.whole_priors
        )
        valid = (found.scores > self.score_thr) & large_enough(found.boxes, self.min_bbox_size)
        if output.quality is not None:
            quality = output.quality.float().sigmoid().gather(1, found.priors)
            found = found._replace(scores=found.scores * quality)
        groups = None if self.class_agnostic else found.labels
        return suppress(found._replace(valid=valid), groups, self.iou_threshold, self.max_per_img, self.nms)


@POSTPROCESS.register()
class ProposalPostprocess:
    """Region proposals: the best priors of each level, thinned by NMS within each level.

    Objectness saturates, so equal scores are common here. The earlier prior comes first, as in MMDetection on a GPU. On
    the CPU MMDetection takes equals as `torch.sort` happens to leave them; with `ties` "sort" so does this, for
    comparisons (see `set_tie_order`).

    Args:
        max_per_img: K.
        iou_threshold: of the NMS.
        nms_pre: priors a level at most; 0 or less: all.
        min_bbox_size: boxes need width and height above it; negative: no filter.
        use_sigmoid: scores are sigmoids of the logits; else softmax over object and background.

    Attributes:
        ties: which of equal scores comes first, "index" or "sort".
    """

    ties: Ties = "index"

    def __init__(
        self,
        max_per_img: int,
        iou_threshold: float,
        *,
        nms_pre: int = -1,
        min_bbox_size: float = -1,
        use_sigmoid: bool = True,
    ) -> None:
        self.max_per_img = at_least_one(max_per_img)
        self.iou_threshold = iou_threshold
        self.nms_pre = nms_pre
        self.min_bbox_size = min_bbox_size
        self.use_sigmoid = use_sigmoid

    @torch.no_grad()
    def __call__(
        self, output: DenseOutput, priors: Tensor, coder: BoxCoder, sizes: Tensor, *, keep: Tensor | None = None
    ) -> Detections:
        """Proposals [B, K] with label 0; arguments as for DensePostprocess."""
        code = box_code_of(coder)
        plain = self.use_sigmoid and keep is None and output.cls_logits.shape[-1] == 1
        if code is not None and plain and self.ties == "index":
            return fused(
                output,
                priors,
                code,
                sizes,
                iou_threshold=self.iou_threshold,
                max_output=self.max_per_img,
                limit=self.nms_pre,
                min_size=self.min_bbox_size,
                rivals="level",
            )
        return self._composed(output, priors, coder, sizes, keep)

    def _composed(
        self, output: DenseOutput, priors: Tensor, coder: BoxCoder, sizes: Tensor, keep: Tensor | None
    ) -> Detections:
        """The same step by step, for what the op has no argument for."""
        scores = _kept(_scores(output, self.use_sigmoid), keep)
        found = candidates_of(output, scores, priors, coder, sizes, self.nms_pre, sorted_indices)
        valid = (found.scores >= 0) & large_enough(found.boxes, self.min_bbox_size)
        if not is_readable(valid):
            lengths = candidate_lengths(output, self.nms_pre)
            index, count = ops.nms_levels(
                found.boxes, found.scores, valid, lengths, self.iou_threshold, self.max_per_img
            )
            return _taken(found, index, found.scores.gather(1, index), count)
        order = _nms_order(found.scores, valid)
        ranked = Candidates(
            found.priors.gather(1, order),
            found.boxes.gather(1, order[..., None].expand(-1, -1, 4)),
            *(v.gather(1, order) for v in (found.scores, found.labels, found.levels, valid)),
        )
        return suppress(ranked, ranked.levels, self.iou_threshold, self.max_per_img)


@runtime_checkable
class CodedBoxes(Protocol):
    """A coder that the kernels know."""

    def box_code(self) -> ops.BoxCode: ...


def box_code_of(coder: BoxCoder) -> ops.BoxCode | None:
    """None for a coder that the kernels do not know, and in a graph that is exported, whose ops need bodies."""
    if needs_bodies():
        return None
    return coder.box_code() if isinstance(coder, CodedBoxes) else None


def fused(output: DenseOutput, priors: Tensor, code: ops.BoxCode, sizes: Tensor, **options: Any) -> Detections:
    """Detections [B, K] by one op, whose other options are given; `ops.dense_postprocess` describes them."""
    found = ops.dense_postprocess(
        _single(output.cls_logits),
        _single(output.box_deltas),
        priors,
        sizes,
        _levels_of(output),
        code,
        quality=None if output.quality is None else _single(output.quality),
        **options,
    )
    return Detections(*found)


def _single(values: Tensor) -> Tensor:
    """The kernels read float32 and lower precision."""
    return values.float() if values.dtype == torch.float64 else values


def _levels_of(output: DenseOutput) -> ops.Levels:
    """Where the head's priors lie."""
    if output.cell_priors is not None:
        return ops.Levels(output.level_sizes, output.cell_priors)
    cells = sum(height * width for height, width in output.level_sizes)
    each = output.cls_logits.shape[1] // cells if cells else 0
    return ops.Levels(output.level_sizes, [each] * len(output.level_sizes))


def sorted_indices(scores: Tensor, number: int) -> Tensor:
    """Indices [B, number] of the largest scores [B, N], descending, with equals as MMDetection's sort leaves them.

    That is any order on the CPU; elsewhere the lower index comes first.
    """
    if not is_readable(scores):
        return ops.top_indices(scores, number)
    return scores.sort(dim=1, descending=True).indices[:, :number]


def _nms_order(scores: Tensor, valid: Tensor) -> Tensor:
    """All candidates [B, N] by score, descending, the valid ones first.

    On the CPU the order of equals depends on how many values are sorted, so only the valid ones are, image by image.
    """
    rows = []
    for score, present in zip(scores, valid, strict=True):
        kept = present.nonzero()[:, 0]
        rows.append(torch.cat((kept[score[kept].sort(descending=True).indices], (~present).nonzero()[:, 0])))
    return torch.stack(rows)


def _scores(output: DenseOutput, use_sigmoid: bool) -> Tensor:
    """Scores [B, P, C] without background."""
    with torch.autocast(output.cls_logits.device.type, enabled=False):
        logits = output.cls_logits.float()
        return logits.sigmoid() if use_sigmoid else logits.softmax(-1)[..., :-1]


def _kept(scores: Tensor, keep: Tensor | None) -> Tensor:
    """Scores [B, P, C], -1 where a prior is not looked at."""
    return scores if keep is None else torch.where(keep[..., None], scores, -1.0)


def candidates_of(
    output: DenseOutput,
    scores: Tensor,
    priors: Tensor,
    coder: BoxCoder,
    sizes: Tensor,
    nms_pre: int,
    rank: Callable[[Tensor, int], Tensor],
    *,
    whole_priors: bool = False,
) -> Candidates:
    """The `nms_pre` best pairs of each level by score [B, P, C], decoded; levels with fewer pairs keep their order.

    With `whole_priors` they are all pairs of the `nms_pre` priors whose best class is best. Where a graph is traced
    for pictures of any size, every level has `nms_pre`; those that are not there are not valid and score -1.
    """
    batch, _, num_classes = scores.shape
    classes = torch.arange(num_classes, device=scores.device)
    index, levels, present = [], [], []
    start = 0
    for level, length in enumerate(output.level_lengths):
        level_scores = scores[:, start : start + length]
        flat = level_scores.amax(-1) if whole_priors else level_scores.flatten(1)
        number = flat.shape[1]
        there = None
        if is_open(number) and nms_pre > 0:
            chosen = rank(F.pad(flat, (0, nms_pre), value=-1.0), nms_pre)
            there = chosen < number
            chosen, number = torch.where(there, chosen, 0), nms_pre
        elif 0 < nms_pre < number:
            number = nms_pre
            chosen = rank(flat, number)
        else:
            chosen = torch.arange(number, device=scores.device).expand(batch, -1)
        if whole_priors:
            chosen = (chosen[..., None] * num_classes + classes).flatten(1)
            there = None if there is None else there[..., None].expand(-1, -1, num_classes).flatten(1)
        index.append(chosen + start * num_classes)
        levels.append(torch.full_like(chosen, level))
        present.append(torch.ones_like(chosen, dtype=torch.bool) if there is None else there)
        start += length
    pairs = torch.cat(index, dim=1)  # [B, N]
    rows = pairs // num_classes
    with torch.autocast(scores.device.type, enabled=False):
        deltas = output.box_deltas.gather(1, rows[..., None].expand(-1, -1, output.box_deltas.shape[-1]))
        references = priors[rows] if priors.dim() == 2 else priors.gather(1, rows[..., None].expand(-1, -1, 4))
        boxes = coder.decode(references, deltas, sizes)
    own = scores.flatten(1).gather(1, pairs)
    valid = torch.cat(present, dim=1)
    if any(map(is_open, output.level_lengths)):
        own = torch.where(valid, own, -1.0)
    return Candidates(rows, boxes, own, pairs % num_classes, torch.cat(levels, dim=1), valid)


def candidate_lengths(output: DenseOutput, nms_pre: int) -> tuple[int, ...]:
    """How many candidates each level has, if they are priors."""
    if nms_pre <= 0:
        return output.level_lengths
    return tuple(nms_pre if is_open(length) else min(length, nms_pre) for length in output.level_lengths)


def large_enough(boxes: Tensor, min_bbox_size: float) -> Tensor:
    """Boxes whose width and height are above the minimum; all of them if it is negative."""
    if min_bbox_size < 0:
        return torch.ones(boxes.shape[:-1], dtype=torch.bool, device=boxes.device)
    return (boxes[..., 2:] - boxes[..., :2] > min_bbox_size).all(-1)


def suppress(
    found: Candidates, groups: Tensor | None, iou_threshold: float, max_output: int, nms: Suppressor = hard_nms
) -> Detections:
    """NMS within the groups, and zeros in the slots that stay empty."""
    index, scores, count = nms(found.boxes, found.scores, groups, iou_threshold, max_output, found.valid)
    return _taken(found, index, scores, count)


def _taken(found: Candidates, index: Tensor, scores: Tensor, count: Tensor) -> Detections:
    """The candidates [B, K] of the given indices with their scores, and zeros at and after the count."""
    kept = torch.arange(index.shape[1], device=count.device) < count[:, None]  # [B, K]
    boxes = found.boxes.gather(1, index[..., None].expand(-1, -1, 4))
    return Detections(
        torch.where(kept[..., None], boxes, 0.0),
        torch.where(kept, scores, 0.0),
        torch.where(kept, found.labels.gather(1, index), 0),
        count,
    )


def at_least_one(max_per_img: int) -> int:
    if max_per_img < 1:
        raise ValueError(f"max_per_img must be at least 1, not {max_per_img}")
    return max_per_img
