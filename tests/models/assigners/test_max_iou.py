"""Assignment by IoU: hand-computed cases, and random batches against a plain loop over one image at a time."""

from copy import copy

import pytest
import torch
from torch import Tensor

from fastdet.models import geometry
from fastdet.models.assigners import BACKGROUND, IGNORE, MaxIoUAssigner
from fastdet.structures import Targets
from tests.models.helpers import make_targets

# IoU with the object (0, 0, 10, 10): 1, 0.5, 0.25, 0
BOXES = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 5, 5], [50, 50, 60, 60]])


def test_thresholds_split_positives_ignored_and_background() -> None:
    assigner = MaxIoUAssigner(0.5, 0.2, match_low_quality=False)
    assignment = assigner(BOXES, make_targets([[[0, 0, 10, 10]]]))
    assert assignment.gt_index.tolist() == [[0, 0, IGNORE, BACKGROUND]]
    assert assignment.overlaps.tolist() == [[1.0, 0.5, 0.25, 0.0]]
    assert assignment.positive.tolist() == [[True, True, False, False]]
    assert assignment.negative.tolist() == [[False, False, False, True]]


def test_a_range_of_negatives_ignores_what_lies_below_it() -> None:
    assigner = MaxIoUAssigner(0.5, (0.1, 0.5), match_low_quality=False)
    assert assigner(BOXES, make_targets([[[0, 0, 10, 10]]])).gt_index.tolist() == [[0, 0, BACKGROUND, IGNORE]]


def test_every_object_gets_its_best_candidates_if_low_quality_matches_count() -> None:
    boxes = torch.tensor([[0.0, 0, 4, 10], [6, 0, 10, 10], [0, 0, 2, 10]])  # IoU 0.4, 0.4, 0.2
    targets = make_targets([[[0, 0, 10, 10]]])
    assert MaxIoUAssigner(0.7, 0.3)(boxes, targets).gt_index.tolist() == [[0, 0, BACKGROUND]]
    first_only = MaxIoUAssigner(0.7, 0.3, gt_max_assign_all=False)
    assert first_only(boxes, targets).gt_index.tolist() == [[0, IGNORE, BACKGROUND]]
    demanding = MaxIoUAssigner(0.7, 0.3, min_pos_iou=0.5)
    assert demanding(boxes, targets).gt_index.tolist() == [[IGNORE, IGNORE, BACKGROUND]]


def test_the_last_object_that_insists_on_a_candidate_wins() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10]])
    targets = make_targets([[[0, 0, 10, 10], [0, 0, 10, 5]]])
    assert MaxIoUAssigner(0.5, 0.4)(boxes, targets).gt_index.tolist() == [[1]]
    assert MaxIoUAssigner(0.5, 0.4, match_low_quality=False)(boxes, targets).gt_index.tolist() == [[0]]


def test_candidates_inside_ignored_objects_are_ignored() -> None:
    targets = make_targets([[[0, 0, 10, 10]]], ignored=[[[48, 48, 62, 62]]])
    off = MaxIoUAssigner(0.5, 0.5)
    assert off(BOXES, targets).gt_index.tolist() == [[0, 0, BACKGROUND, BACKGROUND]]
    on = MaxIoUAssigner(0.5, 0.5, ignore_iof_thr=0.5)
    assert on(BOXES, targets).gt_index.tolist() == [[0, 0, BACKGROUND, IGNORE]]
    # the candidate covers 100 / 196 of the ignored object, a bit more than half
    other_way = MaxIoUAssigner(0.5, 0.5, ignore_iof_thr=0.52, ignore_wrt_candidates=False)
    assert other_way(BOXES, targets).gt_index.tolist() == [[0, 0, BACKGROUND, BACKGROUND]]


def test_an_image_without_objects_is_background_even_inside_ignored_ones() -> None:
    targets = make_targets([[], [[0, 0, 10, 10]]], ignored=[[[48, 48, 62, 62]], []])
    assignment = MaxIoUAssigner(0.5, (0.1, 0.5), ignore_iof_thr=0.5)(BOXES, targets)
    assert assignment.gt_index.tolist() == [[BACKGROUND] * 4, [0, 0, BACKGROUND, IGNORE]]
    assert assignment.overlaps[0].tolist() == [0, 0, 0, 0]


def test_excluded_candidates_neither_match_nor_compete() -> None:
    targets = make_targets([[[0, 0, 10, 10]]])
    candidates = torch.tensor([[False, False, True, True]])
    assignment = MaxIoUAssigner(0.7, 0.3)(BOXES, targets, candidates=candidates)
    assert assignment.gt_index.tolist() == [[IGNORE, IGNORE, 0, BACKGROUND]]


def test_an_object_without_overlap_takes_candidates_only() -> None:
    targets = make_targets([[[80, 80, 90, 90]]])
    candidates = torch.tensor([[False, True, True, False]])
    everything = MaxIoUAssigner(0.7, 0.3)(BOXES, targets, candidates=candidates)
    assert everything.gt_index.tolist() == [[IGNORE, 0, 0, IGNORE]]
    first = MaxIoUAssigner(0.7, 0.3, gt_max_assign_all=False)(BOXES, targets, candidates=candidates)
    assert first.gt_index.tolist() == [[IGNORE, 0, BACKGROUND, IGNORE]]


def test_no_candidates_and_no_slots_are_fine() -> None:
    assigner = MaxIoUAssigner(0.5, 0.5)
    assert assigner(torch.zeros(0, 4), make_targets([[[0, 0, 1, 1]]])).gt_index.shape == (1, 0)
    assert assigner(BOXES, make_targets([[]], slots=0)).gt_index.tolist() == [[BACKGROUND] * 4]


def test_the_best_approximation_stands_for_a_candidate() -> None:
    """The second candidate overlaps with nothing itself."""
    boxes, targets = BOXES[[2, 3]], make_targets([[[0, 0, 10, 10]]])
    approximations = torch.stack((BOXES[[3, 2]], BOXES[[1, 0]]))  # IoU 0 and 0.25; 0.5 and 1
    assigner = MaxIoUAssigner(0.6, 0.4, match_low_quality=False)
    assignment = assigner(boxes, targets, approximations=approximations)
    assert assignment.gt_index.tolist() == [[BACKGROUND, 0]]
    assert assignment.overlaps.tolist() == [[0.25, 1.0]]
    only_first = torch.tensor([[True, False]])
    assert assigner(boxes, targets, candidates=only_first, approximations=approximations).gt_index.tolist() == [
        [BACKGROUND, IGNORE]
    ]


def test_a_range_needs_two_numbers() -> None:
    with pytest.raises(ValueError, match="neg_iou_thr"):
        MaxIoUAssigner(0.5, (0.1,))


def assign_one_image(assigner: MaxIoUAssigner, boxes: Tensor, objects: Tensor, ignored: Tensor) -> Tensor:
    """The definition, object by object, for one image without padding."""

    def overlap(a: Tensor, b: Tensor, over_first: bool) -> float:
        w = min(a[2], b[2]) - max(a[0], b[0])
        h = min(a[3], b[3]) - max(a[1], b[1])
        shared = max(w, torch.tensor(0.0)) * max(h, torch.tensor(0.0))
        area = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
        return float(shared / max(area[0] if over_first else area[0] + area[1] - shared, torch.tensor(1e-6)))

    iou = torch.tensor([[overlap(g, b, False) for b in boxes] for g in objects])
    result = torch.full((len(boxes),), IGNORE)
    if len(objects) == 0:
        return torch.full((len(boxes),), BACKGROUND)
    for p, box in enumerate(boxes):
        if assigner.ignore_iof_thr > 0 and any(overlap(box, i, True) > assigner.ignore_iof_thr for i in ignored):
            iou[:, p] = -1
        best = iou[:, p].max()
        low, high = assigner.neg_iou_range
        if low <= best < high:
            result[p] = BACKGROUND
        if best >= assigner.pos_iou_thr:
            result[p] = iou[:, p].tolist().index(best)
    for g in range(len(objects) if assigner.match_low_quality else 0):
        best = iou[g].max()
        if best >= assigner.min_pos_iou:
            places = [p for p in range(len(boxes)) if iou[g, p] == best]
            result[places if assigner.gt_max_assign_all else places[:1]] = g
    return result


@pytest.mark.parametrize("pairs_at_once", [1 << 26, 1])
@pytest.mark.parametrize(
    "assigner",
    [
        MaxIoUAssigner(0.5, 0.4, min_pos_iou=0),
        MaxIoUAssigner(0.6, 0.3, min_pos_iou=0.3, ignore_iof_thr=0.5),
        MaxIoUAssigner(0.5, (0.1, 0.5), gt_max_assign_all=False, min_pos_iou=0.2),
        MaxIoUAssigner(0.5, 0.5, match_low_quality=False),
    ],
)
def test_batches_equal_images_one_by_one(
    assigner: MaxIoUAssigner, pairs_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(geometry, "PAIRS_AT_ONCE", pairs_at_once)
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:  # a coarse lattice, so that ties happen
        corner = torch.randint(0, 8, (*shape, 2), generator=generator)
        return torch.cat((corner, corner + torch.randint(1, 6, (*shape, 2), generator=generator)), dim=-1).float()

    counts, ignore_counts = torch.tensor([5, 0, 3]), torch.tensor([0, 2, 1])
    boxes = draw(3, 20)
    targets = Targets(draw(3, 6), torch.zeros(3, 6, dtype=torch.int64), counts, draw(3, 2), ignore_counts)
    found = assigner(boxes, targets).gt_index
    changing = copy(assigner)
    changing.pos_iou_thr = torch.tensor(assigner.pos_iou_thr)  # thresholds that are tensors take the pairs' matrix
    assert torch.equal(changing(boxes, targets).gt_index, found)
    for b in range(3):
        objects, ignored = targets.boxes[b, : counts[b]], targets.ignore_boxes[b, : ignore_counts[b]]
        expected = assign_one_image(assigner, boxes[b], objects, ignored)
        assert found[b].tolist() == expected.tolist()
