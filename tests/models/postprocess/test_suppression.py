"""SoftNMS in the place of NMS: detections with the scores that are left."""

import pytest
import torch

from fastdet.models.coders import DeltaXYWHBBoxCoder
from fastdet.models.heads.bbox import BBoxOutput
from fastdet.models.postprocess import RoIPostprocess, SoftNMS
from fastdet.models.postprocess.dense import Candidates, suppress
from fastdet.models.postprocess.suppression import hard_nms

BOXES = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 5], [50, 50, 60, 60]]])
SCORES = torch.tensor([[0.8, 0.6, 0.5]])


def candidates() -> Candidates:
    index = torch.arange(3)[None]
    return Candidates(index, BOXES, SCORES, torch.tensor([[1, 1, 2]]), index, torch.ones(1, 3, dtype=torch.bool))


def test_overlapping_boxes_of_a_class_lose_score_and_stay() -> None:
    # Boxes 0 and 1 overlap by 0.5: the second is left with 0.6 * 0.5, behind the box of the other class.
    found = suppress(candidates(), candidates().labels, 0.3, 4, SoftNMS())
    assert found.count.tolist() == [3]
    assert found.scores[0].tolist() == pytest.approx([0.8, 0.5, 0.3, 0])
    assert found.labels[0].tolist() == [1, 2, 1, 0]
    assert found.boxes[0, 2].tolist() == BOXES[0, 1].tolist()
    assert suppress(candidates(), candidates().labels, 0.3, 4, SoftNMS(min_score=0.4)).count.tolist() == [2]


def test_hard_suppression_keeps_scores() -> None:
    found = suppress(candidates(), candidates().labels, 0.3, 4, hard_nms)
    assert found.scores[0].tolist() == pytest.approx([0.8, 0.5, 0, 0])


def test_rois_take_it_too() -> None:
    logits = torch.tensor([[[0.8, 0.01, 0.19], [0.6, 0.01, 0.39], [0.5, 0.01, 0.49]]]).log()
    part = RoIPostprocess(max_per_img=4, iou_threshold=0.3, soft_nms=SoftNMS(method="gaussian", sigma=0.25))
    valid, sizes = torch.ones(1, 3, dtype=torch.bool), torch.tensor([[100, 100]])
    found = part(BBoxOutput(logits, torch.zeros(1, 3, 8)), BOXES, valid, DeltaXYWHBBoxCoder(), sizes)
    assert found.scores[0].tolist() == pytest.approx([0.8, 0.5, 0.6 * 2.718281828**-1, 0], rel=1e-5)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="method must be one of naive, linear, gaussian, not 'hard'"):
        SoftNMS(method="hard")  # type: ignore[arg-type]
