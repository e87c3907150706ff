"""SimOTAAssigner: equal to the method written out with loops, and its special cases."""

import pytest
import torch

from fastdet.models.assigners import BACKGROUND, IGNORE, DenseScene, SimOTAAssigner
from fastdet.models.coders import CellBBoxCoder
from fastdet.models.priors import AnchorGenerator
from fastdet.structures import DenseOutput, Targets
from tests.models.helpers import make_targets

SIZES = ((6, 6), (3, 3))
CELLS = AnchorGenerator([8, 16], [1.0], scales=[1.0], center_offset=0.5)(SIZES)
NUM_CLASSES = 3


def scene(seed: int, batch: int = 2, candidates: torch.Tensor | None = None) -> DenseScene:
    """Random logits, and boxes of about 20 pixels around their cells."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, len(CELLS))
    deltas = torch.rand(*shape, 4, generator=generator)
    quality = torch.randn(*shape, generator=generator)
    output = DenseOutput(torch.randn(*shape, NUM_CLASSES, generator=generator), deltas, SIZES, quality)
    return DenseScene(CELLS, candidates, CellBBoxCoder(), output)


def written_out(
    scene: DenseScene, targets: Targets, image: int, radius: float, room: int
) -> dict[int, tuple[int, float]]:
    """Prior -> (object, IoU), one pair after the other."""
    boxes = scene.coder.decode(scene.priors, scene.output.box_deltas)[image].double()
    quality = scene.output.quality
    assert quality is not None
    scores = (scene.output.cls_logits[image].sigmoid() * quality[image].sigmoid()[:, None]).sqrt().double()
    objects, labels = targets.boxes[image].double(), targets.labels[image]
    number = int(targets.count[image])
    iou, cost, seen = {}, {}, set()
    for p, cell in enumerate(scene.priors.tolist()):
        x, y, reach = (cell[0] + cell[2]) / 2, (cell[1] + cell[3]) / 2, radius * (cell[2] - cell[0])
        for m in range(number):
            x1, y1, x2, y2 = objects[m].tolist()
            inside = x1 < x < x2 and y1 < y < y2
            near = abs(x - (x1 + x2) / 2) < reach and abs(y - (y1 + y2) / 2) < reach
            if inside or near:
                seen.add(p)
            u1, v1, u2, v2 = boxes[p].tolist()
            shared = max(0.0, min(x2, u2) - max(x1, u1)) * max(0.0, min(y2, v2) - max(y1, v1))
            iou[p, m] = shared / ((x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - shared)
            target = torch.zeros(NUM_CLASSES, dtype=torch.float64)
            target[labels[m]] = 1
            entropy = torch.nn.functional.binary_cross_entropy(scores[p], target, reduction="sum").item()
            penalty = 0.0 if inside and near else 100000.0
            cost[p, m] = entropy - 3 * torch.tensor(iou[p, m] + 1e-8).log().item() + penalty
    wanted: dict[int, list[int]] = {}
    for m in range(number):
        k = max(1, int(sum(sorted((iou[p, m] for p in seen), reverse=True)[:room])))
        for p in sorted(seen, key=lambda p: cost[p, m])[:k]:
            wanted.setdefault(p, []).append(m)
    found = {}
    for p, slots in wanted.items():
        m = slots[0] if len(slots) == 1 else min(range(number), key=lambda m: cost[p, m])
        found[p] = (m, iou[p, m])
    return found


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_method_written_out(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed + 100)
    corners = torch.rand(2, 5, 2, generator=generator) * 28
    boxes = torch.cat((corners, corners + 8 + 12 * torch.rand(2, 5, 2, generator=generator)), -1).tolist()
    targets = make_targets([boxes[0], boxes[1][:3]], [[0, 1, 2, 0, 1], [2, 2, 0]], slots=6)
    given = scene(seed)
    found = SimOTAAssigner(center_radius=1.5)(given, targets)
    for image in range(2):
        wanted = written_out(given, targets, image, 1.5, 10)
        assert len(wanted) >= 3
        gt_index = found.gt_index[image].tolist()
        assert {p: m for p, m in enumerate(gt_index) if m >= 0} == {p: m for p, (m, _) in wanted.items()}
        for prior, (_, overlap) in wanted.items():
            assert found.overlaps[image, prior].item() == pytest.approx(overlap, abs=1e-5)
    assert (found.overlaps[found.gt_index == BACKGROUND] == 0).all()


def test_images_without_objects_are_background() -> None:
    targets = make_targets([[[4, 4, 20, 20]], []])
    found = SimOTAAssigner()(scene(0), targets)
    assert (found.gt_index[1] == BACKGROUND).all()
    assert (found.gt_index[0] >= 0).any()
    assert (SimOTAAssigner()(scene(0), make_targets([[], []], slots=0)).gt_index == BACKGROUND).all()


def test_priors_that_take_no_part_are_not_taken() -> None:
    candidates = torch.ones(1, len(CELLS), dtype=torch.bool)
    targets = make_targets([[[4, 4, 20, 20]]])
    taken = SimOTAAssigner()(scene(0, 1), targets).gt_index >= 0
    candidates &= ~taken
    found = SimOTAAssigner()(scene(0, 1, candidates), targets)
    assert (found.gt_index[taken] == IGNORE).all()
    assert (found.gt_index >= 0).any()
