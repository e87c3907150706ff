"""Boxes by the buckets that their sides lie in: side-aware boundary localization.

Letters: n buckets of a side, D = 8 * n numbers of a box: 4 * n logits, then 4 * n offsets, of left, right, top, bottom.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fastdet.registry import CODERS


class BucketTargets(NamedTuple):
    """What buckets and offsets are trained for, each [..., 4 * n] float32."""

    labels: Tensor  # 1 for the bucket that each side lies in
    label_weights: Tensor
    offsets: Tensor  # from each bucket's middle to the side, in buckets
    offset_weights: Tensor


@CODERS.register()
class BucketingBBoxCoder:
    """Each side of a box is the middle of its likeliest bucket, less that bucket's offset.

    The reference box, scaled about its centre, is cut into buckets along each axis; the left side looks at the left
    half of them, outermost first, the right side at the right half, and so on.

    Source: Wang et al., Side-Aware Boundary Localization, sections 3.2 and 3.3.

    Args:
        num_buckets: of an axis.
        scale_factor: by how much the reference box is scaled.
        offset_topk: offsets of so many nearest buckets are trained.
        offset_upperbound: those after the nearest only if they are nearer than this, in buckets.
        cls_ignore_neighbor: other buckets less than one bucket from the side count nowhere.
        clip_border: whether decoded boxes are clipped to the image's last pixel when its size is given.
    """

    def __init__(
        self,
        num_buckets: int,
        scale_factor: float,
        *,
        offset_topk: int = 2,
        offset_upperbound: float = 1.0,
        cls_ignore_neighbor: bool = True,
        clip_border: bool = True,
    ) -> None:
        self.num_buckets = num_buckets
        self.num_side = (num_buckets + 1) // 2
        self.width = 8 * self.num_side
        self.scale_factor = scale_factor
        self.offset_topk = offset_topk
        self.offset_upperbound = offset_upperbound
        self.cls_ignore_neighbor = cls_ignore_neighbor
        self.clip_border = clip_border

    def targets(self, references: Tensor, boxes: Tensor) -> BucketTargets:
        """What is to be said at references [..., 4] of boxes [..., 4]. Empty references give NaN, which others mask."""
        middles, sizes = self._buckets(references)
        x1, y1, x2, y2 = boxes.float().unbind(-1)
        sides = torch.stack((x1, x2, y1, y2), dim=-1)[..., None]
        offsets = (middles - sides) / sizes  # [..., 4, n]
        distance = offsets.abs()
        nearest, index = distance.topk(self.offset_topk, dim=-1, largest=False)
        trained = nearest < self.offset_upperbound
        trained = torch.cat((torch.ones_like(trained[..., :1]), trained[..., 1:]), dim=-1).float()
        offset_weights = torch.zeros_like(offsets).scatter(-1, index, trained)
        labels = torch.zeros_like(offsets).scatter(-1, index[..., :1], 1.0)
        label_weights = torch.ones_like(offsets)
        if self.cls_ignore_neighbor:
            label_weights = label_weights.masked_fill((distance < 1) & (labels == 0), 0.0)
        return BucketTargets(*(v.flatten(-2) for v in (labels, label_weights, offsets, offset_weights)))

    def decode(self, references: Tensor, deltas: Tensor, sizes: Tensor | None = None) -> Tensor:
        """The boxes [..., 4] that deltas [..., D] describe at references [..., 4]; leading dimensions broadcast.

        Args:
            sizes: [B, 2] (H, W), where the first dimension of the result is B.
        """
        logits, offsets = self._split(deltas.float())
        middles, buckets = self._buckets(references)
        best = logits.argmax(dim=-1, keepdim=True)  # [..., 4, 1]
        middle = middles.expand(*best.shape[:-1], -1).gather(-1, best)
        x1, x2, y1, y2 = (middle - offsets.gather(-1, best) * buckets)[..., 0].unbind(-1)
        if sizes is not None and self.clip_border:
            height, width = (sizes.to(x1.dtype) - 1).reshape(-1, 2, *[1] * (x1.dim() - 1)).unbind(1)
            x1, x2 = (torch.minimum(v.clamp(min=0), width) for v in (x1, x2))
            y1, y2 = (torch.minimum(v.clamp(min=0), height) for v in (y1, y2))
        return torch.stack((x1, y1, x2, y2), dim=-1)

    def confidence(self, deltas: Tensor) -> Tensor:
        """How sure the buckets of deltas [..., D] are, [...] in [0, 1]; see `bucket_confidence`."""
        return bucket_confidence(self._split(deltas.float())[0])

    def _split(self, deltas: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and offsets, each [..., 4, n]."""
        logits, offsets = deltas.unflatten(-1, (2, 4, self.num_side)).unbind(-3)
        return logits, offsets

    def _buckets(self, references: Tensor) -> tuple[Tensor, Tensor]:
        """Middles [..., 4, n] and sizes [..., 4, 1] of the buckets of references [..., 4]."""
        low, high = references.float()[..., :2], references.float()[..., 2:]
        center, half = (low + high) * 0.5, (high - low) * (0.5 * self.scale_factor)
        low, high = center - half, center + half
        size = (high - low) / self.num_buckets
        steps = torch.arange(self.num_side, device=references.device) + 0.5
        from_low = low[..., None] + steps * size[..., None]  # [..., 2, n]
        from_high = high[..., None] - steps * size[..., None]
        middles = torch.stack((from_low, from_high), dim=-2).flatten(-3, -2)  # x1, x2, y1, y2
        return middles, size.repeat_interleave(2, dim=-1)[..., None]


def bucket_confidence(logits: Tensor) -> Tensor:
    """The mean over the sides of the probability of the best bucket, and of the second if it is next to it.

    Source: Wang et al., Side-Aware Boundary Localization, section 3.3 (bucketing-guided rescoring).

    Args:
        logits: [..., 4, n].

    Returns:
        [...] in [0, 1].
    """
    best, index = logits.float().softmax(dim=-1).topk(2, dim=-1)
    beside = (index[..., 0] - index[..., 1]).abs() == 1
    return (best[..., 0] + best[..., 1] * beside).mean(dim=-1)
