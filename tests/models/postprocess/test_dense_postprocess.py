"""Dense post-processing: which candidates survive, in which order."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from fastdet.models.coders import (
    CellBBoxCoder,
    DeltaXYWHBBoxCoder,
    DistancePointBBoxCoder,
    DistributionBBoxCoder,
)
from fastdet.models.postprocess.dense import DensePostprocess, ProposalPostprocess
from fastdet.structures import DenseOutput

SIZES = torch.tensor([[100, 200]])
# four boxes: the second overlaps the first by 0.9, the others are apart
PRIORS = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60], [190, 90, 210, 110]])


def logits(*probabilities: list[float]) -> Tensor:
    return torch.logit(torch.tensor(probabilities))[None]


def output(cls_logits: Tensor, *level_sizes: tuple[int, int]) -> DenseOutput:
    return DenseOutput(cls_logits, torch.zeros(*cls_logits.shape[:2], 4), level_sizes or ((1, cls_logits.shape[1]),))


def test_pairs_above_the_score_are_thinned_within_their_class() -> None:
    post = DensePostprocess(5, 0.5, nms_pre=10, score_thr=0.3)
    found = post(output(logits([0.9, 0.1], [0.8, 0.7], [0.2, 0.3], [0.6, 0.1])), PRIORS, DeltaXYWHBBoxCoder(), SIZES)
    # prior 1 loses class 0 to prior 0, and keeps class 1; 0.3 is not above the threshold
    assert found.count.tolist() == [3]
    assert found.scores[0].tolist() == pytest.approx([0.9, 0.7, 0.6, 0, 0])
    assert found.labels[0].tolist() == [0, 1, 0, 0, 0]
    assert found.boxes[0].tolist() == [[0, 0, 10, 10], [0, 0, 10, 9], [190, 90, 200, 100], [0] * 4, [0] * 4]


def test_classes_may_suppress_each_other() -> None:
    post = DensePostprocess(5, 0.5, nms_pre=10, score_thr=0.3, class_agnostic=True)
    found = post(output(logits([0.9, 0.1], [0.8, 0.7], [0.2, 0.3], [0.6, 0.1])), PRIORS, DeltaXYWHBBoxCoder(), SIZES)
    assert found.scores[0, :2].tolist() == pytest.approx([0.9, 0.6])
    assert found.count.tolist() == [2]


def test_each_level_gives_its_best_pairs_and_the_best_of_all_are_kept() -> None:
    post = DensePostprocess(2, 0.95, nms_pre=1, score_thr=0.0)
    found = post(output(logits([0.5], [0.6], [0.9], [0.8]), (1, 2), (2, 1)), PRIORS, DeltaXYWHBBoxCoder(), SIZES)
    assert found.scores[0].tolist() == pytest.approx([0.9, 0.6])
    one = DensePostprocess(1, 0.95)(output(logits([0.5], [0.6], [0.9], [0.8])), PRIORS, DeltaXYWHBBoxCoder(), SIZES)
    assert one.scores[0].tolist() == pytest.approx([0.9])


def test_boxes_that_clipping_leaves_empty_are_dropped_if_a_size_is_asked_for() -> None:
    outside = PRIORS + torch.tensor([200.0, 0, 200, 0])
    for min_size, count in ((0, 0), (-1, 1)):
        post = DensePostprocess(5, 0.5, min_bbox_size=min_size)
        found = post(output(logits([0.9])), outside[:1], DeltaXYWHBBoxCoder(), SIZES)
        assert found.count.tolist() == [count]


def test_levels_may_give_their_best_priors_with_all_classes() -> None:
    scores = output(logits([0.9, 0.8], [0.7, 0.6], [0.1, 0.2], [0.3, 0.5]))
    whole = DensePostprocess(5, 0.95, nms_pre=2, score_thr=0.4, whole_priors=True)
    assert whole(scores, PRIORS, DeltaXYWHBBoxCoder(), SIZES).scores[0].tolist() == pytest.approx(
        [0.9, 0.8, 0.7, 0.6, 0]
    )
    pairs = DensePostprocess(5, 0.95, nms_pre=2, score_thr=0.4)
    assert pairs(scores, PRIORS, DeltaXYWHBBoxCoder(), SIZES).scores[0, :3].tolist() == pytest.approx([0.9, 0.8, 0])


def test_priors_that_nobody_keeps_are_not_looked_at() -> None:
    keep = torch.tensor([[False, True, False, True]])
    scores = output(logits([0.9], [0.8], [0.7], [0.6]))
    for post in (DensePostprocess(3, 0.5, nms_pre=3), ProposalPostprocess(3, 0.5, nms_pre=3)):
        found = post(scores, PRIORS, DeltaXYWHBBoxCoder(), SIZES, keep=keep)
        assert found.scores[0].tolist() == pytest.approx([0.8, 0.6, 0])
        assert found.count.tolist() == [2]


def test_images_may_have_priors_of_their_own() -> None:
    own = torch.stack((PRIORS, PRIORS.flip(0)))
    scores = output(logits([0.9], [0.1], [0.1], [0.1]).expand(2, -1, -1))
    found = DensePostprocess(1, 0.5, score_thr=0.5)(scores, own, DeltaXYWHBBoxCoder(), SIZES.expand(2, 2))
    assert found.boxes[:, 0].tolist() == [[0, 0, 10, 10], [190, 90, 200, 100]]


def test_softmax_leaves_the_background_out() -> None:
    raw = torch.tensor([[[math.log(3), 0.0, 0.0]]])  # 0.6, 0.2 and the background's 0.2
    post = DensePostprocess(3, 0.5, score_thr=0.1, use_sigmoid=False)
    found = post(output(raw), PRIORS[:1], DeltaXYWHBBoxCoder(), SIZES)
    assert found.scores[0].tolist() == pytest.approx([0.6, 0.2, 0])


def test_proposals_are_thinned_within_their_level_without_a_threshold() -> None:
    post = ProposalPostprocess(4, 0.5, nms_pre=2, min_bbox_size=0)
    found = post(output(logits([0.001], [0.9], [0.7], [0.8]), (1, 1), (3, 1)), PRIORS, DeltaXYWHBBoxCoder(), SIZES)
    # level 0 keeps its only prior, which the second level's twin does not suppress
    assert found.scores[0].tolist() == pytest.approx([0.9, 0.8, 0.001, 0])
    assert found.boxes[0, 2].tolist() == [0, 0, 10, 10]
    assert found.labels.unique().tolist() == [0]
    assert found.count.tolist() == [3]


def test_empty_proposals_are_dropped_and_the_rest_keeps_its_order() -> None:
    priors = torch.cat((PRIORS[:1] + 200, PRIORS[2:3], PRIORS[:1]))
    found = ProposalPostprocess(3, 0.5, min_bbox_size=0)(
        output(logits([0.9], [0.2], [0.3])), priors, DeltaXYWHBBoxCoder(), SIZES
    )
    assert found.scores[0].tolist() == pytest.approx([0.3, 0.2, 0])


def test_images_of_a_batch_do_not_meet() -> None:
    post = DensePostprocess(2, 0.5, score_thr=0.5)
    both = torch.cat((logits([0.9], [0.2], [0.2], [0.2]), logits([0.2], [0.8], [0.2], [0.7])))
    found = post(output(both), PRIORS, DeltaXYWHBBoxCoder(), SIZES.expand(2, 2))
    assert found.count.tolist() == [1, 2]
    assert found.boxes[1, 0].tolist() == [0, 0, 10, 9]


def test_no_candidates_give_no_detections() -> None:
    found = DensePostprocess(2, 0.5, score_thr=0.5)(
        output(logits([0.1], [0.2], [0.2], [0.2])), PRIORS, DeltaXYWHBBoxCoder(), SIZES
    )
    assert found.count.tolist() == [0]
    assert found.boxes.abs().sum() == 0
    with pytest.raises(ValueError, match="max_per_img"):
        DensePostprocess(0, 0.5)


CODERS: list[Any] = [
    DeltaXYWHBBoxCoder((0.0, 0.1, 0.0, 0.2), (0.1, 0.1, 0.2, 0.2)),
    DeltaXYWHBBoxCoder(add_ctr_clamp=True, ctr_clamp=6, clip_border=False),
    DistancePointBBoxCoder(),
    DistancePointBBoxCoder(False, in_strides=True),
    DistributionBBoxCoder(4, cells=2.0),
    CellBBoxCoder(),
]


def random_output(coder: Any, classes: int, *, with_quality: bool = False) -> tuple[DenseOutput, Tensor]:
    """A head's output at two levels in two images, without equal scores, and its priors."""
    generator = torch.Generator().manual_seed(7)
    level_sizes, number = ((6, 10), (3, 5)), 2
    total = number * 75
    width = 20 if isinstance(coder, DistributionBBoxCoder) else 4
    corner = torch.rand(total, 2, generator=generator) * 90
    priors = torch.cat((corner, corner + 5 + 30 * torch.rand(total, 2, generator=generator)), dim=1)
    cls_logits = (torch.randperm(2 * total * classes, generator=generator) / (total * classes) * 4 - 4).float()
    deltas = torch.randn(2, total, width, generator=generator) * (9 if isinstance(coder, DistancePointBBoxCoder) else 1)
    quality = torch.randn(2, total, generator=generator) if with_quality else None
    return DenseOutput(cls_logits.view(2, total, classes), deltas, level_sizes, quality), priors


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("nms_pre", [-1, 20, 1000])
def test_the_op_equals_the_steps(coder: Any, nms_pre: int) -> None:
    sizes = torch.tensor([[80, 100], [60, 90]])
    for with_quality, agnostic in ((False, False), (True, True)):
        raw, priors = random_output(coder, 3, with_quality=with_quality)
        post = DensePostprocess(40, 0.4, nms_pre=nms_pre, score_thr=0.2, min_bbox_size=1, class_agnostic=agnostic)
        assert_close(post(raw, priors, coder, sizes), post._composed(raw, priors, coder, sizes, None))
    raw, priors = random_output(coder, 1)
    proposals = ProposalPostprocess(40, 0.4, nms_pre=nms_pre, min_bbox_size=0)
    assert_close(proposals(raw, priors, coder, sizes), proposals._composed(raw, priors, coder, sizes, None))


def assert_close(actual: Any, expected: Any) -> None:
    assert actual.count.tolist() == expected.count.tolist()
    assert torch.equal(actual.labels, expected.labels)
    torch.testing.assert_close(actual.scores, expected.scores)
    torch.testing.assert_close(actual.boxes, expected.boxes, rtol=1e-5, atol=1e-4)


def test_proposals_of_equal_scores_come_by_prior_or_as_the_sort_leaves_them() -> None:
    raw = DenseOutput(torch.zeros(1, 1000, 1), torch.zeros(1, 1000, 4), ((1, 1000),))
    corner = torch.arange(1000)[:, None] * 10.0 * torch.tensor([1.0, 0.0])
    priors = torch.cat((corner, corner + 5), dim=1)
    sizes = torch.tensor([[10, 20_000]])
    post = ProposalPostprocess(10, 0.5, nms_pre=100)
    assert (post(raw, priors, DeltaXYWHBBoxCoder(), sizes).boxes[0, :, 0] / 10).tolist() == list(range(10))
    post.ties = "sort"
    order = torch.full((1, 1000), 0.5).sort(dim=1, descending=True).indices[0, :100]
    order = order[torch.full((100,), 0.5).sort(descending=True).indices]
    found = post(raw, priors, DeltaXYWHBBoxCoder(), sizes)
    assert (found.boxes[0, :, 0] / 10).tolist() == order[:10].tolist()
