"""Predictions of dense heads become detections or proposals.

Letters: B images, P priors, C classes, N candidates, K kept.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fastdet import ops
from fastdet.models.coders import DeltaXYWHBBoxCoder
from fastdet.registry import POSTPROCESS
from fastdet.structures import DenseOutput, Detections

Groups = Literal["class", "level", "none"]


class Candidates(NamedTuple):
    """The best (prior, class) pairs of each level."""

    scores: Tensor  # [B, N] float32
    priors: Tensor  # [B, N] int64
    labels: Tensor  # [B, N] int64
    levels: Tensor  # [N] int64


@POSTPROCESS.register()
class DensePostprocess:
    """The best candidates of each level, decoded, filtered, and thinned by NMS.

    A candidate is a pair of prior and class. Ties of score go to the earlier one.

    Args:
        max_per_img: K.
        iou_threshold: of the NMS.
        nms_pre: candidates a level at most; 0 or less: all.
        score_thr: candidates need a higher score; None: all are candidates (region proposals).
        min_bbox_size: boxes need width and height above it; negative: no filter.
        groups: NMS is done per class, per level, or over everything.
        use_sigmoid: scores are sigmoids of the logits; else softmax, with the background last and left out.
    """

    def __init__(
        self,
        max_per_img: int,
        iou_threshold: float,
        *,
        nms_pre: int = 1000,
        score_thr: float | None = None,
        min_bbox_size: float = -1,
        groups: Groups = "class",
        use_sigmoid: bool = True,
    ) -> None:
        if max_per_img < 1:
            raise ValueError(f"max_per_img must be at least 1, not {max_per_img}")
        if groups not in ("class", "level", "none"):
            raise ValueError(f"groups must be 'class', 'level' or 'none', not {groups!r}")
        self.max_per_img = max_per_img
        self.iou_threshold = iou_threshold
        self.nms_pre = nms_pre
        self.score_thr = score_thr
        self.min_bbox_size = min_bbox_size
        self.groups = groups
        self.use_sigmoid = use_sigmoid

    @torch.no_grad()
    def __call__(self, output: DenseOutput, priors: Tensor, coder: DeltaXYWHBBoxCoder, sizes: Tensor) -> Detections:
        """Detections [B, K] in pixels of the network input.

        Args:
            priors: [P, 4].
            sizes: [B, 2] (H, W), to which boxes are clipped.
        """
        with torch.autocast(output.cls_logits.device.type, enabled=False):
            logits = output.cls_logits.float()
            scores = logits.sigmoid() if self.use_sigmoid else logits.softmax(-1)[..., :-1]
            found = self._candidates(scores, output.level_lengths)
            rows = found.priors[..., None].expand(-1, -1, 4)
            boxes = coder.decode(priors[found.priors], output.box_deltas.gather(1, rows), sizes)
        valid = None if self.score_thr is None else found.scores > self.score_thr
        if self.min_bbox_size >= 0:
            large = (boxes[..., 2:] - boxes[..., :2] > self.min_bbox_size).all(-1)
            valid = large if valid is None else valid & large
        groups = {"class": found.labels, "level": found.levels.expand_as(found.labels), "none": None}[self.groups]
        index, count = ops.nms_padded(
            boxes, found.scores, groups, self.iou_threshold, self.max_per_img, valid=valid
        )  # [B, K], [B]
        kept = torch.arange(self.max_per_img, device=count.device) < count[:, None]
        boxes = boxes.gather(1, index[..., None].expand(-1, -1, 4))
        return Detections(
            torch.where(kept[..., None], boxes, 0.0),
            torch.where(kept, found.scores.gather(1, index), 0.0),
            torch.where(kept, found.labels.gather(1, index), 0),
            count,
        )

    def _candidates(self, scores: Tensor, level_lengths: tuple[int, ...]) -> Candidates:
        """The best of scores [B, P, C]; those that the threshold refuses come last, with score -1."""
        num_classes = scores.shape[-1]
        if self.score_thr is not None:
            scores = torch.where(scores > self.score_thr, scores, -1.0)
        best, index, levels = [], [], []
        start = 0
        for level, length in enumerate(level_lengths):
            flat = scores[:, start : start + length].flatten(1)
            number = min(self.nms_pre, flat.shape[1]) if self.nms_pre > 0 else flat.shape[1]
            top = top_indices(flat, number)
            best.append(flat.gather(1, top))
            index.append(top + start * num_classes)
            levels.append(torch.full((number,), level, device=scores.device))
            start += length
        chosen = torch.cat(index, dim=1)
        return Candidates(torch.cat(best, dim=1), chosen // num_classes, chosen % num_classes, torch.cat(levels))


def top_indices(scores: Tensor, number: int) -> Tensor:
    """Indices [B, number] of the largest scores [B, N], descending; among equals the lower index comes first.

    `topk` alone leaves the order of equals open, and which of them it takes. The bits of non-negative floats order like
    the floats, so one integer holds score and index. Negative scores come after all others, in no set order.
    """
    bits = scores.float().view(torch.int32).to(torch.int64)
    keys = (bits << 32) - torch.arange(scores.shape[1], device=scores.device)
    return keys.topk(number, dim=1).indices
