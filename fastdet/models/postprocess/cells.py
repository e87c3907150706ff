"""CellPostprocess: anchors with some objectness, the best classes of the whole image. YOLOv3.

Letters: B images, P priors.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fastdet.models.assigners import BoxCoder
from fastdet.models.coders.in_cell import shifted
from fastdet.models.postprocess.dense import DensePostprocess
from fastdet.registry import POSTPROCESS
from fastdet.structures import DenseOutput, Detections


@POSTPROCESS.register()
class CellPostprocess:
    """DensePostprocess over all levels together, of anchors whose objectness is high enough.

    Args:
        strides: pixels a cell of each level.
        postprocess: what follows.
        conf_thr: least objectness; not positive: all anchors are looked at.
    """

    def __init__(self, strides: Sequence[float], postprocess: DensePostprocess, *, conf_thr: float = -1) -> None:
        self.strides = tuple(strides)
        self.postprocess = postprocess
        self.conf_thr = conf_thr

    @torch.no_grad()
    def __call__(self, output: DenseOutput, priors: Tensor, coder: BoxCoder, sizes: Tensor) -> Detections:
        """Detections [B, K]; arguments as for DensePostprocess.

        Raises:
            ValueError: the head says no objectness.
        """
        if output.quality is None:
            raise ValueError("the post-processing needs a head with objectness")
        logits = output.cls_logits.float()
        if self.conf_thr > 0:
            unsure = output.quality.float().sigmoid() < self.conf_thr
            logits = logits.masked_fill(unsure[..., None], -torch.inf)
        lengths = zip(output.level_lengths, self.strides, strict=True)
        stride = torch.cat([torch.full((n, 1), float(s), device=logits.device) for n, s in lengths])
        deltas = shifted(output.box_deltas.float(), stride)
        one_level = DenseOutput(logits, deltas, ((1, logits.shape[1]),), output.quality, (1,))
        return self.postprocess(one_level, priors, coder, sizes)
