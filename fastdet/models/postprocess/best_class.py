"""BestClassPostprocess: one candidate a prior, of its best class. YOLOX.

Letters: B images, P priors, K kept.
"""

import torch
from torch import Tensor

from fastdet.models.assigners import BoxCoder
from fastdet.models.postprocess.dense import Candidates, box_code_of, fused, suppress
from fastdet.models.postprocess.suppression import SoftNMS, Suppressor, hard_nms
from fastdet.registry import POSTPROCESS
from fastdet.structures import DenseOutput, Detections


@POSTPROCESS.register()
class BestClassPostprocess:
    """The best class of every prior, times its quality, thinned by NMS within each class.

    Args:
        iou_threshold: of the NMS.
        score_thr: candidates need this score.
        max_per_img: K; None: as many as there are priors, so that nothing is cut off.
        class_agnostic: NMS over all classes together.
        soft_nms: takes the place of the NMS.
    """

    def __init__(
        self,
        iou_threshold: float,
        *,
        score_thr: float = 0.0,
        max_per_img: int | None = None,
        class_agnostic: bool = False,
        soft_nms: SoftNMS | None = None,
    ) -> None:
        self.iou_threshold = iou_threshold
        self.score_thr = score_thr
        self.max_per_img = max_per_img
        self.class_agnostic = class_agnostic
        self.nms: Suppressor = hard_nms if soft_nms is None else soft_nms

    @torch.no_grad()
    def __call__(self, output: DenseOutput, priors: Tensor, coder: BoxCoder, sizes: Tensor) -> Detections:
        """Detections [B, K] in pixels of the network input.

        Args:
            priors: [P, 4].
            sizes: [B, 2] (H, W), to which boxes are clipped if the coder does so.
        """
        code = box_code_of(coder)
        if code is not None and self.nms is hard_nms:
            return fused(
                output,
                priors,
                code,
                sizes,
                iou_threshold=self.iou_threshold,
                max_output=self.max_per_img or output.cls_logits.shape[1],
                score_threshold=self.score_thr,
                rivals="all" if self.class_agnostic else "class",
                best_class=True,
            )
        return self._composed(output, priors, coder, sizes)

    def _composed(self, output: DenseOutput, priors: Tensor, coder: BoxCoder, sizes: Tensor) -> Detections:
        """The same step by step, for what the op has no argument for."""
        with torch.autocast(priors.device.type, enabled=False):
            scores, labels = output.cls_logits.float().sigmoid().max(-1)  # [B, P]
            if output.quality is not None:
                scores = scores * output.quality.float().sigmoid()
            boxes = coder.decode(priors, output.box_deltas.float(), sizes)
        rows = torch.arange(scores.shape[1], device=scores.device).expand_as(scores)
        found = Candidates(rows, boxes, scores, labels, torch.zeros_like(labels), scores >= self.score_thr)
        groups = None if self.class_agnostic else labels
        return suppress(found, groups, self.iou_threshold, self.max_per_img or scores.shape[1], self.nms)
