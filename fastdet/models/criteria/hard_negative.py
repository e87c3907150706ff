"""HardNegativeCriterion: of the background, only the worst predictions count. SSD.

Letters: B images, P priors, C classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdet.models.assigners import BoxCoder
from fastdet.models.criteria.anchor import BoxLoss
from fastdet.models.samplers import Selection
from fastdet.registry import CRITERIA
from fastdet.structures import DenseOutput, Targets


@CRITERIA.register()
class HardNegativeCriterion:
    """Softmax cross entropy of positives and of each image's hardest negatives; box loss of positives.

    Both are divided by the sampler's average.

    Source: Liu et al., SSD, section 2.2 (hard negative mining).

    Args:
        loss_bbox: of deltas.
        neg_pos_ratio: negatives for each positive of the image.
    """

    def __init__(self, loss_bbox: BoxLoss, *, neg_pos_ratio: float = 3) -> None:
        self.loss_bbox = loss_bbox
        self.neg_pos_ratio = neg_pos_ratio

    def __call__(
        self, output: DenseOutput, priors: Tensor, coder: BoxCoder, selection: Selection, targets: Targets
    ) -> dict[str, Tensor]:
        """The two losses, computed in float32.

        Args:
            priors: [P, 4].
            selection: every prior in its place.
        """
        with torch.autocast(output.cls_logits.device.type, enabled=False):
            logits, deltas = output.cls_logits.float(), output.box_deltas.float()
            positive, negative = selection.positive, selection.negative
            labels, wanted = _targets(logits, priors, coder, selection, targets)
            entropy = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(
                labels
            )  # [B, P]
            hardest = torch.where(negative, entropy, -1.0).sort(dim=1, descending=True).values
            room = positive.sum(1, keepdim=True) * self.neg_pos_ratio
            counted = (torch.arange(labels.shape[1], device=labels.device) < room) & (hardest >= 0)
            total = torch.where(positive, entropy, 0.0).sum() + torch.where(counted, hardest, 0.0).sum()
            weight = positive.float()[..., None].expand_as(deltas)
            loss_bbox = self.loss_bbox(deltas, wanted, weight=weight, avg_factor=selection.average)
        return {"loss_cls": total / selection.average, "loss_bbox": loss_bbox}


@torch.no_grad()
def _targets(
    logits: Tensor, priors: Tensor, coder: BoxCoder, selection: Selection, targets: Targets
) -> tuple[Tensor, Tensor]:
    """Labels [B, P], the background last, and deltas [B, P, 4], 0 where there is no object."""
    labels = torch.where(selection.positive, targets.labels.gather(1, selection.gt_index), logits.shape[-1] - 1)
    boxes = targets.boxes.gather(1, selection.gt_index[..., None].expand(-1, -1, 4))
    return labels, torch.where(selection.positive[..., None], coder.encode(priors, boxes), 0.0)
