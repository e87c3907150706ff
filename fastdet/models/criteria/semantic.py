"""SemanticCriterion: what a semantic segmentation branch is trained for.

Letters: B images, C classes, H and W pixels, h and w cells.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdet.models.losses import SoftmaxLoss
from fastdet.registry import CRITERIA
from fastdet.structures import Targets


@CRITERIA.register()
class SemanticCriterion:
    """Cross entropy of each cell with the class of the pixel at its upper left corner.

    Source: Chen et al., Hybrid Task Cascade, section 3.3.

    Args:
        loss_seg: of the logits; its `ignore_index` marks pixels without a class.
        seg_scale_factor: cells per pixel.
    """

    def __init__(self, loss_seg: SoftmaxLoss, *, seg_scale_factor: float = 1 / 8) -> None:
        self.loss_seg = loss_seg
        self.seg_scale_factor = seg_scale_factor

    def __call__(self, logits: Tensor, targets: Targets) -> dict[str, Tensor]:
        """`loss_semantic_seg`, computed in float32.

        Args:
            logits: [B, C, h, w].

        Raises:
            ValueError: targets without semantic maps, or maps of another size than the logits.
        """
        if targets.semantic is None:
            raise ValueError(
                "the semantic head needs semantic maps in the targets: load them with LoadAnnotations(with_seg=True)"
            )
        maps = targets.semantic[:, None].float()
        labels = F.interpolate(maps, scale_factor=self.seg_scale_factor, mode="nearest")[:, 0].long()
        if labels.shape[1:] != logits.shape[2:]:
            raise ValueError(
                f"semantic maps are {tuple(labels.shape[1:])} after scaling by {self.seg_scale_factor}, but the "
                f"semantic head makes {tuple(logits.shape[2:])}: seg_scale_factor must be 1 / stride of its level"
            )
        with torch.autocast(logits.device.type, enabled=False):
            return {"loss_semantic_seg": self.loss_seg(logits.float().movedim(1, -1), labels)}
