"""Whether two runs of a detector found the same: detections compared as sets.

Orders and ties differ between runtimes, so a detection's partner is the nearest one of its label.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from fastdet.structures import Detections


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How far two runs may be apart.

    Args:
        matched: least share of detections with a partner.
        boxes: pixels of the network input.
        scores: of partners.
        masks: of their mask probabilities, mean over the mask.
        ap: how much less AP over the annotated pictures.
    """

    matched: float = 1.0
    boxes: float = 1e-2
    scores: float = 1e-4
    masks: float = 1e-3
    ap: float = 2e-3


LIMITS = {
    "onnx fp32": Limits(),
    "engine fp32": Limits(matched=0.995, boxes=0.1, scores=1e-3, masks=1e-2),
    "fp16": Limits(matched=0.97, boxes=1.0, scores=0.01, masks=0.02, ap=0.01),
    "bf16": Limits(matched=0.90, boxes=4.0, scores=0.05, masks=0.05, ap=0.03),
    "int8": Limits(matched=0.70, boxes=8.0, scores=0.15, masks=0.2, ap=0.05),
}
"""By runtime and precision."""


def limits_of(precision: str) -> Limits:
    """What an ONNX file of that precision must keep to in onnxruntime, and a program in torch."""
    return LIMITS["onnx fp32" if precision == "fp32" else precision]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What came out over all images."""

    images: int
    expected: int
    found: int
    matched: int
    box_error: float
    score_error: float
    mask_error: float
    inexact: int

    @property
    def share(self) -> float:
        """Matched detections of both runs, 1 if there are none."""
        return 2 * self.matched / (self.expected + self.found) if self.expected + self.found else 1.0

    def holds(self, limits: Limits) -> bool:
        """Whether enough detections matched; partners lie within the limits by construction."""
        return self.share >= limits.matched

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "share": self.share}


def compare(
    expected: Sequence[Detections], found: Sequence[Detections], limits: Limits, inexact: int = 0
) -> Comparison:
    """Matches the detections of the same batches.

    A detection without a partner counts as matched if the other run may have left it out for its place at the cut:
    all of that run's slots are filled, and its score is no more than the limit above the lowest there.

    Args:
        inexact: images whose result was not proven, for the report.
    """
    images = sum(len(batch.boxes) for batch in expected)
    counts = [0, 0, 0]
    worst = [0.0, 0.0, 0.0]
    for one, other in zip(expected, found, strict=True):
        for image in range(len(one.boxes)):
            first, second = _trimmed(one, image), _trimmed(other, image)
            pairs, errors = _match(first, second, limits)
            exchanged = min(
                _at_the_cut(first, second, pairs[:, 0], other, limits),
                _at_the_cut(second, first, pairs[:, 1], one, limits),
            )
            counts[0] += len(first[1])
            counts[1] += len(second[1])
            counts[2] += len(pairs) + exchanged
            worst = [max(a, b) for a, b in zip(worst, errors, strict=True)]
    return Comparison(
        images=images, expected=counts[0], found=counts[1], matched=counts[2], box_error=worst[0],
        score_error=worst[1], mask_error=worst[2], inexact=inexact,
    )  # fmt: skip


_Image = tuple[Tensor, Tensor, Tensor, Tensor | None]


def _trimmed(batch: Detections, image: int) -> _Image:
    """Boxes, scores, labels and masks of one image."""
    count = int(batch.count[image])
    masks = None if batch.masks is None else batch.masks[image, :count].float()
    return batch.boxes[image, :count].float(), batch.scores[image, :count].float(), batch.labels[image, :count], masks


def _match(first: _Image, second: _Image, limits: Limits) -> tuple[Tensor, list[float]]:
    """Pairs of indices [n, 2], and their largest differences of box, score and mask."""
    distance = (first[0][:, None] - second[0][None]).abs().amax(-1)  # [a, b]
    gap = (first[1][:, None] - second[1][None]).abs()
    near = (first[2][:, None] == second[2]) & (distance <= limits.boxes) & (gap <= limits.scores)
    cost = torch.where(near, distance / limits.boxes + gap / limits.scores, torch.inf)
    free = torch.ones(len(second[1]), dtype=torch.bool)
    pairs: list[tuple[int, int]] = []
    for row in range(len(first[1])):
        costs = torch.where(free, cost[row], torch.inf)
        if len(costs) == 0 or not bool(costs.min() < torch.inf):
            continue
        column = int(costs.argmin())
        if first[3] is not None and second[3] is not None:
            difference = float((first[3][row] - second[3][column]).abs().mean())
            if difference > limits.masks:
                continue
        free[column] = False
        pairs.append((row, column))
    index = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
    a, b = index.unbind(1)
    if len(pairs) == 0:
        return index, [0.0, 0.0, 0.0]
    masks = 0.0
    if first[3] is not None and second[3] is not None:
        masks = float((first[3][a] - second[3][b]).abs().mean((1, 2)).max())
    return index, [float(distance[a, b].max()), float(gap[a, b].max()), masks]


def _at_the_cut(own: _Image, other: _Image, paired: Tensor, batch: Detections, limits: Limits) -> int:
    """How many detections without a partner may have fallen out of the other run's last slots."""
    alone = torch.ones(len(own[1]), dtype=torch.bool)
    alone[paired] = False
    if len(other[1]) < batch.boxes.shape[1] or not len(other[1]):
        return 0
    return int((own[1][alone] <= other[1].min() + limits.scores).sum())
