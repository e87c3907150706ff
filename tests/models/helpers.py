"""Small targets for the tests of model parts."""

from collections.abc import Sequence

import torch

from fastdet.structures import Targets

Boxes = Sequence[Sequence[float]]


def make_targets(
    boxes: Sequence[Boxes],
    labels: Sequence[Sequence[int]] | None = None,
    ignored: Sequence[Boxes] | None = None,
    *,
    slots: int = 4,
) -> Targets:
    """Padded targets of a batch; labels default to 0."""
    batch = len(boxes)
    ignored = ignored or [[] for _ in boxes]
    padded, padded_ignored = torch.zeros(batch, slots, 4), torch.zeros(batch, slots, 4)
    padded_labels = torch.zeros(batch, slots, dtype=torch.int64)
    for image in range(batch):
        for slot, box in enumerate(boxes[image]):
            padded[image, slot] = torch.tensor(box, dtype=torch.float32)
            padded_labels[image, slot] = labels[image][slot] if labels else 0
        for slot, box in enumerate(ignored[image]):
            padded_ignored[image, slot] = torch.tensor(box, dtype=torch.float32)
    count = torch.tensor([len(b) for b in boxes])
    return Targets(padded, padded_labels, count, padded_ignored, torch.tensor([len(b) for b in ignored]))
