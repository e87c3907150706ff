"""VotingPostprocess: detections are moved to where all candidates of their class around them lie. PAA.

Letters: B images, P priors, C classes, N priors that are looked at, K kept.
"""

import torch
from torch import Tensor

from fastdet import ops
from fastdet.models import geometry
from fastdet.models.assigners import BoxCoder
from fastdet.models.postprocess.dense import Candidates, at_least_one, candidates_of, suppress
from fastdet.registry import POSTPROCESS
from fastdet.structures import DenseOutput, Detections

_SHARPNESS = 0.025  # variance of the overlap that votes count by
_LEAST_OVERLAP = 0.01  # boxes that overlap by less have no vote


@POSTPROCESS.register()
class VotingPostprocess:
    """The best priors of each level by the mean of class score and quality, with all classes; NMS within each class.

    The mean is the geometric one.

    Source: Kim and Lee, Probabilistic Anchor Assignment, sections 3.3 and 3.4 (score voting).

    Args:
        max_per_img: K.
        iou_threshold: of the NMS.
        nms_pre: priors a level at most; 0 or less: all.
        score_thr: candidates need a higher score.
        score_voting: boxes become the mean of those around them.
    """

    def __init__(
        self,
        max_per_img: int,
        iou_threshold: float,
        *,
        nms_pre: int = -1,
        score_thr: float = 0.0,
        score_voting: bool = True,
    ) -> None:
        self.max_per_img = at_least_one(max_per_img)
        self.iou_threshold = iou_threshold
        self.nms_pre = nms_pre
        self.score_thr = score_thr
        self.score_voting = score_voting

    @torch.no_grad()
    def __call__(self, output: DenseOutput, priors: Tensor, coder: BoxCoder, sizes: Tensor) -> Detections:
        """Detections [B, K] in pixels of the network input.

        Args:
            priors: [P, 4].
            sizes: [B, 2] (H, W), to which boxes are clipped.

        Raises:
            ValueError: the head says no quality.
        """
        if output.quality is None:
            raise ValueError("the post-processing needs a head with a quality")
        quality = output.quality.float().sigmoid()[..., None]
        scores = (output.cls_logits.float().sigmoid() * quality).sqrt()  # [B, P, C]
        best = scores.amax(-1, keepdim=True)
        found = candidates_of(output, best, priors, coder, sizes, self.nms_pre, ops.top_indices)
        num_classes = scores.shape[-1]
        scores = scores.gather(1, found.priors[..., None].expand(-1, -1, num_classes))  # [B, N, C]
        scores = torch.where(found.valid[..., None], scores, -1.0)
        pairs = self._pairs(found, scores)
        kept = suppress(pairs, pairs.labels, self.iou_threshold, self.max_per_img)
        return self._vote(kept, found.boxes, scores) if self.score_voting else kept

    def _pairs(self, found: Candidates, scores: Tensor) -> Candidates:
        """Every prior with every class, scores [B, N, C]: [B, N * C]."""
        num_classes = scores.shape[-1]
        labels = torch.arange(num_classes, device=scores.device).expand_as(scores).flatten(1)
        rows, levels = (v[..., None].expand_as(scores).flatten(1) for v in (found.priors, found.levels))
        boxes = found.boxes[:, :, None].expand(-1, -1, num_classes, -1).flatten(1, 2)
        flat = scores.flatten(1)
        return Candidates(rows, boxes, flat, labels, levels, flat > self.score_thr)

    def _vote(self, kept: Detections, boxes: Tensor, scores: Tensor) -> Detections:
        """Detections with boxes that are means of all boxes [B, N, 4], weighted by scores [B, N, C] and overlap."""
        overlaps = geometry.overlaps(kept.boxes, boxes)  # [B, K, N]
        index = kept.labels[:, :, None].expand(-1, -1, boxes.shape[1])
        own = scores.transpose(1, 2).gather(1, index)  # [B, K, N] of each detection's class
        weight = (-(1 - overlaps).square() / _SHARPNESS).exp() * own
        weight = torch.where((own > self.score_thr) & (overlaps > _LEAST_OVERLAP), weight, 0.0)
        total = weight.sum(-1, keepdim=True)
        return kept._replace(boxes=torch.where(total > 0, weight @ boxes / total, kept.boxes))
