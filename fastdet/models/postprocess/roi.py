"""RoIPostprocess: from scores and deltas of RoIs to detections.

Letters: B images, S RoI slots, C classes, K kept.
"""

import torch
from torch import Tensor

from fastdet.models.coders import BucketingBBoxCoder, RoICoder
from fastdet.models.heads.bbox import BBoxOutput
from fastdet.models.postprocess.suppression import SoftNMS, Suppressor, hard_nms
from fastdet.registry import POSTPROCESS
from fastdet.structures import Detections


@POSTPROCESS.register()
class RoIPostprocess:
    """Softmax, a box per class, clipping to the image, score threshold, suppression within each class, the best K.

    Args:
        score_thr: only candidates with a higher score are looked at, in [0, 1].
        iou_threshold: of two boxes of a class that overlap by more, the one with the lower score goes.
        max_per_img: K.
        objectness: logits end with two for object and background; a score is the class's share times the object's.
        soft_nms: takes the place of the suppression.
    """

    def __init__(
        self,
        *,
        score_thr: float = 0.05,
        iou_threshold: float = 0.5,
        max_per_img: int = 100,
        objectness: bool = False,
        soft_nms: SoftNMS | None = None,
    ) -> None:
        if max_per_img < 1:
            raise ValueError(f"max_per_img must be at least 1, not {max_per_img}: the number of detections is fixed")
        self.score_thr = score_thr
        self.iou_threshold = iou_threshold
        self.max_per_img = max_per_img
        self.objectness = objectness
        self.nms: Suppressor = hard_nms if soft_nms is None else soft_nms

    def class_logits(self, logits: Tensor) -> Tensor:
        """Those of the classes [..., C], without object and background."""
        return logits[..., : -2 if self.objectness else -1]

    @torch.no_grad()
    def __call__(self, output: BBoxOutput, boxes: Tensor, valid: Tensor, coder: RoICoder, sizes: Tensor) -> Detections:
        """The detections of each image, by score, descending.

        Where the coder says how sure boxes are, NMS and detections have the product of both scores.

        Args:
            output: logits [B, S, C + 1], background last (or [B, S, C + 2]); deltas [B, S, C * 4] or [B, S, 4].
            boxes: RoIs [B, S, 4] xyxy, input pixels.
            valid: which slots hold a RoI, bool [B, S].
            coder: turns deltas into boxes.
            sizes: (H, W) of each image without padding, [B, 2].
        """
        with torch.autocast(boxes.device.type, enabled=False):
            scores = self._scores(output.logits.float())  # [B, S, C]
            deltas = output.deltas.unflatten(-1, (-1, coder.width))  # [B, S, C or 1, 4]
            decoded = coder.decode(boxes[:, :, None], deltas, sizes).expand(*scores.shape, 4)
        num_classes = scores.shape[-1]
        labels = torch.arange(num_classes, device=scores.device).expand_as(scores)
        candidates = valid[..., None] & (scores > self.score_thr)
        if isinstance(coder, BucketingBBoxCoder):
            scores = scores * coder.confidence(deltas)
        flat_boxes, flat_scores = decoded.flatten(1, 2), scores.flatten(1)  # [B, S * C, ...]
        index, final_scores, count = self.nms(
            flat_boxes,
            flat_scores,
            labels.flatten(1),
            self.iou_threshold,
            self.max_per_img,
            candidates.flatten(1),
        )
        kept = torch.arange(self.max_per_img, device=index.device) < count[:, None]  # [B, K]
        return Detections(
            boxes=flat_boxes.gather(1, index[..., None].expand(-1, -1, 4)).masked_fill(~kept[..., None], 0.0),
            scores=final_scores.masked_fill(~kept, 0.0),
            labels=(index % num_classes).masked_fill(~kept, 0),
            count=count,
        )

    def _scores(self, logits: Tensor) -> Tensor:
        """Scores of the classes [B, S, C]."""
        if not self.objectness:
            return logits.softmax(dim=-1)[..., :-1]
        return self.class_logits(logits).softmax(dim=-1) * logits[..., -2:].softmax(dim=-1)[..., :1]
