"""Proposal recall and box overlaps, worked out by hand."""

import numpy as np
import pytest

from fastdet.evaluation.recall import box_iou, proposal_recalls


def test_overlaps_with_and_without_the_last_pixel() -> None:
    boxes = np.array([[0, 0, 9, 9]], np.float32)
    other = np.array([[0, 0, 9, 4], [20, 20, 29, 29], [0, 0, 9, 9]], np.float32)
    assert box_iou(boxes, other)[0].tolist() == pytest.approx([36 / 81, 0, 1])
    assert box_iou(boxes, other, extra=1.0)[0].tolist() == pytest.approx([0.5, 0, 1])
    assert box_iou(boxes, np.zeros((0, 4), np.float32)).shape == (1, 0)


def test_a_proposal_serves_one_object_only() -> None:
    truth = np.array([[0, 0, 10, 10], [0, 0, 10, 8]], np.float32)
    recalls = proposal_recalls([truth], [truth[:1]], proposal_nums=[1], iou_thresholds=[0.5])
    assert recalls.tolist() == [[0.5]]


def test_the_best_pair_is_matched_first() -> None:
    # The first proposal suits both objects; it goes to the second, where it fits exactly.
    truth = np.array([[0, 0, 10, 8], [0, 0, 10, 10]], np.float32)
    proposals = np.array([[0, 0, 10, 10], [0, 0, 10, 6]], np.float32)
    recalls = proposal_recalls([truth], [proposals], proposal_nums=[1, 2], iou_thresholds=[0.5, 0.75, 0.9])
    assert recalls.tolist() == [[0.5, 0.5, 0.5], [1.0, 1.0, 0.5]]


def test_images_without_objects_or_proposals() -> None:
    nothing = np.zeros((0, 4), np.float32)
    box = np.array([[0, 0, 10, 10]], np.float32)
    recalls = proposal_recalls([nothing, box], [box, nothing], proposal_nums=[1], iou_thresholds=[0.5])
    assert recalls.tolist() == [[0.0]]
    assert np.isnan(proposal_recalls([nothing], [box], proposal_nums=[1], iou_thresholds=[0.5])).all()
