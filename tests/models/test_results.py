"""Detections of fixed shape become results in file pixels."""

import pytest
import torch

from fastdet.models.results import to_instances
from fastdet.structures import Detections, ImageMeta


def meta(scale=(1.0, 1.0), file_size=(20, 30)):
    return ImageMeta(image_id=1, path="a.jpg", file_size=file_size, input_size=(40, 60), scale=scale)


def detections(masks=None):
    boxes = torch.tensor([[[2.0, 4.0, 8.0, 12.0], [1.0, 1.0, 3.0, 3.0]], [[0.0, 0.0, 0.0, 0.0]] * 2])
    scores = torch.tensor([[0.9, 0.4], [0.0, 0.0]])
    return Detections(boxes, scores, torch.tensor([[3, 1], [0, 0]]), torch.tensor([2, 0]), masks)


def test_boxes_are_divided_by_the_scale_of_their_image_and_trimmed_to_the_count():
    first, second = to_instances(detections(), [meta(scale=(2.0, 4.0)), meta()])
    assert first.bboxes.tolist() == [[1.0, 1.0, 4.0, 3.0], [0.5, 0.25, 1.5, 0.75]]
    assert first.labels.tolist() == [3, 1]
    assert len(second) == 0
    assert second.bboxes.shape == (0, 4)
    assert first.masks is None


def test_masks_have_the_size_of_the_file():
    first, second = to_instances(detections(torch.ones(2, 2, 28, 28)), [meta(scale=(2.0, 4.0))] * 2)
    assert first.masks.shape == (2, 20, 30)
    assert first.masks[0].nonzero().amin(0).tolist() == [1, 1]
    assert first.masks[0].sum() == 3 * 2
    assert second.masks.shape == (0, 20, 30)


def test_the_mask_threshold_is_included():
    half = detections(torch.full((2, 2, 28, 28), 0.5))
    assert to_instances(half, [meta()] * 2, 0.5)[0].masks.any()
    assert not to_instances(half, [meta()] * 2, 0.51)[0].masks.any()


def test_a_wrong_number_of_metas_is_refused():
    with pytest.raises(ValueError, match="each of the 2 images, not for 1"):
        to_instances(detections(), [meta()])
