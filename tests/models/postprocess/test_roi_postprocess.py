"""From RoI scores and deltas to detections."""

import math

import pytest
import torch

from fastdet.models.coders import DeltaXYWHBBoxCoder
from fastdet.models.heads.bbox import BBoxOutput
from fastdet.models.postprocess.roi import RoIPostprocess

BOXES = torch.tensor([[[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [20.0, 20.0, 40.0, 40.0]]])


def logits(*probabilities):
    return torch.tensor(probabilities).log()[None]


def postprocess(**changes):
    return RoIPostprocess(**({"max_per_img": 4} | changes))


def run(part, scores, deltas=None, valid=(True, True, True), sizes=((100, 100),)):
    if deltas is None:
        deltas = torch.zeros(1, 3, 8)
    return part(BBoxOutput(scores, deltas), BOXES, torch.tensor([valid]), DeltaXYWHBBoxCoder(), torch.tensor(sizes))


def test_overlapping_boxes_suppress_each_other_within_a_class_only():
    # Boxes 0 and 1 overlap by 0.9. Class 0 keeps box 0; class 1 keeps box 1, and box 2 stands alone.
    found = run(postprocess(), logits([0.6, 0.1, 0.3], [0.5, 0.2, 0.3], [0.7, 0.04, 0.26]))
    assert found.count.tolist() == [3]
    torch.testing.assert_close(found.scores[0], torch.tensor([0.7, 0.6, 0.2, 0.0]))
    assert found.labels[0].tolist() == [0, 0, 1, 0]
    assert found.boxes[0].tolist() == [BOXES[0, 2].tolist(), BOXES[0, 0].tolist(), BOXES[0, 1].tolist(), [0.0] * 4]


def test_a_score_equal_to_the_threshold_is_left_out():
    scores = torch.log_softmax(torch.zeros(1, 3, 4), -1)  # 0.25 each, exactly
    deltas = torch.zeros(1, 3, 12)
    assert run(postprocess(score_thr=0.25), scores, deltas).count.tolist() == [0]
    assert run(postprocess(score_thr=0.24), scores, deltas).count.tolist() == [4]


def test_only_the_best_are_kept():
    found = run(postprocess(max_per_img=1), logits([0.6, 0.1, 0.3], [0.5, 0.2, 0.3], [0.7, 0.04, 0.26]))
    assert found.scores.shape == (1, 1)
    assert found.scores[0, 0].item() == pytest.approx(0.7)


def test_slots_without_a_roi_are_not_looked_at():
    found = run(postprocess(), logits([0.6, 0.1, 0.3], [0.5, 0.2, 0.3], [0.98, 0.01, 0.01]), valid=(True, False, False))
    assert found.count.tolist() == [2]
    assert found.boxes[0, 0].tolist() == BOXES[0, 0].tolist()


def test_each_class_has_its_own_box_and_boxes_are_clipped_to_the_image():
    deltas = torch.zeros(1, 3, 8)
    deltas[0, 2, 4] = 1.0  # class 1 moves by one width
    deltas[0, 2, 7] = math.log(2.0)  # and doubles its height
    found = run(
        postprocess(), logits([0.01, 0.01, 0.98], [0.01, 0.01, 0.98], [0.3, 0.6, 0.1]), deltas, sizes=((45, 55),)
    )
    torch.testing.assert_close(found.boxes[0, :2], torch.tensor([[40.0, 10.0, 55.0, 45.0], [20.0, 20.0, 40.0, 40.0]]))


def test_one_box_may_serve_every_class():
    found = run(postprocess(), logits([0.01, 0.01, 0.98], [0.01, 0.01, 0.98], [0.3, 0.6, 0.1]), torch.zeros(1, 3, 4))
    assert found.labels[0, :2].tolist() == [1, 0]
    assert found.boxes[0, 0].tolist() == found.boxes[0, 1].tolist() == BOXES[0, 2].tolist()


def test_a_number_of_detections_that_is_not_fixed_is_refused():
    with pytest.raises(ValueError, match="max_per_img must be at least 1, not -1"):
        postprocess(max_per_img=-1)


def test_a_score_is_the_classs_share_of_the_objects_share():
    scores = torch.log(torch.tensor([[[0.75, 0.25, 0.8, 0.2], [0.5, 0.5, 0.1, 0.9], [0.1, 0.9, 0.5, 0.5]]]))
    found = run(postprocess(objectness=True, score_thr=0.1), scores)
    torch.testing.assert_close(found.scores[0], torch.tensor([0.6, 0.45, 0.2, 0.0]))
    assert found.labels[0].tolist() == [0, 1, 1, 0]
