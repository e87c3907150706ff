"""Assignment of the priors that say class and box of an object best at once: TOOD.

Letters: B images, P priors, C classes, m object slots (a slice of M).
"""

import torch
from torch import Tensor

from fastdet.models import geometry
from fastdet.models.assigners.assignment import BACKGROUND, IGNORE, Assignment
from fastdet.models.assigners.scene import DenseScene
from fastdet.registry import ASSIGNERS
from fastdet.structures import Targets


@ASSIGNERS.register()
class TaskAlignedAssigner:
    """An object takes the priors of the largest product of class score and IoU; a prior keeps its largest IoU.

    A positive's centre lies in its object. The assignment's overlaps say how well a positive is aligned: the product,
    scaled so that the object's best positive has the largest IoU of its positives.

    Source: Feng et al., TOOD, section 3.2, equation 6.

    Args:
        topk: priors of an object.
        alpha, beta: exponents of score and IoU.
    """

    def __init__(self, topk: int, *, alpha: float = 1, beta: float = 6) -> None:
        self.topk = topk
        self.alpha = alpha
        self.beta = beta

    @torch.no_grad()
    def __call__(self, scene: DenseScene, targets: Targets) -> Assignment:
        """The object of each prior, and how well it is aligned with it (0 for the background)."""
        shape, device = (scene.batch, len(scene.priors)), scene.priors.device
        scores = scene.output.cls_logits.float().sigmoid()
        boxes = scene.coder.decode(scene.priors, scene.output.box_deltas.float())
        gt_index = torch.full(shape, BACKGROUND, dtype=torch.int64, device=device)
        best, metric = (torch.zeros(shape, device=device) for _ in range(2))
        for start, stop in geometry.slot_slices(targets.boxes.shape[1], shape[0] * shape[1]):
            objects, labels = targets.boxes[:, start:stop], targets.labels[:, start:stop]
            overlaps = geometry.overlaps(objects, boxes)  # [B, m, P]
            own = scores.gather(2, labels[:, None].expand(-1, shape[1], -1)).transpose(1, 2)
            product = own.pow(self.alpha) * overlaps.pow(self.beta)
            taken = self._taken(scene, objects, product, targets.valid[:, start:stop, None])
            overlap, index = torch.where(taken, overlaps, -1.0).max(dim=1)
            better = overlap > best  # a product above 0 has an IoU above 0
            gt_index = torch.where(better, index + start, gt_index)
            best = torch.where(better, overlap, best)
            metric = torch.where(better, product.gather(1, index[:, None])[:, 0], metric)
        aligned = _scaled(gt_index, metric, best, targets.boxes.shape[1])
        if scene.candidates is not None:
            gt_index = gt_index.masked_fill(~scene.candidates, IGNORE)
        return Assignment(gt_index, aligned)

    def _taken(self, scene: DenseScene, objects: Tensor, product: Tensor, valid: Tensor) -> Tensor:
        """The priors that objects [B, m, 4] take, by product [B, m, P]: bool [B, m, P]."""
        product = torch.where(valid, product, 0.0)
        if scene.candidates is not None:
            product = torch.where(scene.candidates[:, None], product, 0.0)
        highest, index = product.topk(min(self.topk, product.shape[2]), dim=2)
        points = geometry.centers(scene.priors)[index]  # [B, m, topk, 2]
        sides = geometry.sides_from(points, objects[:, :, None].expand(*index.shape, 4))
        chosen = (highest > 0) & (sides.amin(-1) > 0.01)
        return torch.zeros_like(product, dtype=torch.bool).scatter(2, index, chosen)


def _scaled(gt_index: Tensor, metric: Tensor, overlaps: Tensor, num_slots: int) -> Tensor:
    """The metric [B, P] over its largest value of the object, times the object's largest IoU."""
    slots = gt_index.clamp(min=0)

    def largest(values: Tensor) -> Tensor:
        empty = values.new_zeros(len(values), max(num_slots, 1))
        return empty.scatter_reduce(1, slots, values, "amax").gather(1, slots)

    return metric / (largest(metric) + 1e-7) * largest(overlaps)
