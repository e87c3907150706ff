"""How overlapping candidates make way: suppression, or loss of score.

Letters: B images, N candidates, K kept.
"""

from typing import Protocol

from torch import Tensor

from fastdet import ops
from fastdet.ops.soft_nms import METHODS, SoftNmsMethod
from fastdet.registry import POSTPROCESS


class Suppressor(Protocol):
    """Chooses K of the valid candidates of each image, within groups."""

    def __call__(
        self,
        boxes: Tensor,
        scores: Tensor,
        groups: Tensor | None,
        iou_threshold: float,
        max_output: int,
        valid: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Index [B, K] and score [B, K] of the kept candidates, and their number [B].

        Args:
            boxes: [B, N, 4].
            scores: [B, N].
            groups: int64 [B, N]; None: one group.
            iou_threshold: of two boxes that overlap by more, the one with the lower score makes way.
            max_output: K.
            valid: bool [B, N].
        """


def hard_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor | None, iou_threshold: float, max_output: int, valid: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Greedy suppression; scores stay as they are."""
    index, count = ops.nms_padded(boxes, scores, groups, iou_threshold, max_output, valid=valid)
    return index, scores.gather(1, index), count


@POSTPROCESS.register()
class SoftNMS:
    """Overlapping candidates lose score, and detections have the score that is left.

    Source: Bodla et al., Soft-NMS, equations 1 to 3; `mmcv.ops.soft_nms`.

    Args:
        sigma: width of the gaussian.
        min_score: candidates with less left are dropped.
        method: "linear", "gaussian", or "naive", which leaves a score of 0.
    """

    def __init__(self, *, sigma: float = 0.5, min_score: float = 1e-3, method: SoftNmsMethod = "linear") -> None:
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
        self.sigma = sigma
        self.min_score = min_score
        self.method: SoftNmsMethod = method

    def __call__(
        self,
        boxes: Tensor,
        scores: Tensor,
        groups: Tensor | None,
        iou_threshold: float,
        max_output: int,
        valid: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As for Suppressor."""
        return ops.soft_nms_padded(
            boxes,
            scores,
            groups,
            iou_threshold,
            max_output,
            valid,
            sigma=self.sigma,
            min_score=self.min_score,
            method=self.method,
        )
