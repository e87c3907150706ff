"""Pictures of detections."""

import cv2
import numpy as np
import pytest
import torch

from fastdet.structures import Instances
from fastdet.visualization.draw import class_colors, draw_box, draw_instances, draw_label, draw_mask, line_width


def one(box: list[float], *, score: float = 0.9, label: int = 0, mask: np.ndarray | None = None) -> Instances:
    return Instances(
        torch.tensor([box], dtype=torch.float32),
        torch.tensor([score]),
        torch.tensor([label]),
        None if mask is None else torch.from_numpy(mask[None]),
    )


def test_the_given_picture_is_left_as_it_is() -> None:
    image = np.full((100, 120, 3), 7, np.uint8)
    drawn = draw_instances(image, one([10, 40, 50, 90]), ("cat",))
    assert (image == 7).all()
    assert drawn.shape == image.shape
    assert (drawn != 7).any()


def test_a_box_has_the_colour_of_its_class() -> None:
    drawn = draw_instances(np.zeros((100, 120, 3), np.uint8), one([10, 40, 50, 90], label=1), ("cat", "dog"))
    assert tuple(drawn[90, 30]) == class_colors(2)[1]
    assert tuple(drawn[65, 30]) == (0, 0, 0)


def test_detections_below_the_score_are_left_out() -> None:
    image = np.zeros((100, 120, 3), np.uint8)
    assert (draw_instances(image, one([10, 40, 50, 90], score=0.2), ("cat",), score_threshold=0.3) == 0).all()


def test_no_detections_give_the_picture_itself() -> None:
    image = np.full((10, 12, 3), 5, np.uint8)
    nothing = Instances(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    np.testing.assert_array_equal(draw_instances(image, nothing, ()), image)


def test_masks_tint_the_inside_and_leave_the_outside() -> None:
    mask = np.zeros((100, 120), bool)
    mask[40:80, 20:60] = True
    canvas = np.zeros((100, 120, 3), np.uint8)
    draw_mask(canvas, mask, (100, 200, 50), opacity=0.5)
    assert tuple(canvas[60, 40]) == (50, 100, 25)
    assert (canvas[40, 40] > (90, 185, 45)).all()  # the outline, smoothed
    assert (canvas[:38] == 0).all()
    drawn = draw_instances(np.zeros((100, 120, 3), np.uint8), one([20, 40, 60, 80], mask=mask), ("cat",))
    assert drawn[60, 40].any()


@pytest.mark.parametrize("box", [[-50, -50, 500, 500], [200, 200, 300, 300], [5, 5, 5, 5], [float("nan")] * 4])
def test_boxes_beyond_the_picture_are_drawn_at_its_edge(box: list[float]) -> None:
    drawn = draw_instances(np.zeros((60, 80, 3), np.uint8), one(box), ("cat",))
    assert drawn.any()


def test_labels_stay_inside_the_picture() -> None:
    for box in ([0, 0, 5, 5], [75, 55, 79, 59]):
        canvas = np.zeros((120, 200, 3), np.uint8)
        draw_label(canvas, np.array(box), "zebra 0.99", (0, 255, 0))
        plate = (canvas == (0, 255, 0)).all(axis=-1)
        assert plate.sum() > 300  # the whole plate is there


def test_names_in_other_scripts_and_labels_without_a_name_are_drawn() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    for classes, label in ((("é猫",), 0), ((), 3)):
        assert draw_instances(image, one([10, 40, 50, 90], label=label), classes).any()


def test_colours_of_many_classes_are_told_apart() -> None:
    colors = np.array(class_colors(20), dtype=int)
    assert class_colors(20) == class_colors(20)
    apart = np.abs(colors[:, None] - colors[None]).sum(-1)
    assert apart[~np.eye(20, dtype=bool)].min() > 20
    assert np.abs(np.diff(colors, axis=0)).sum(-1).min() > 150  # neighbours


def test_lines_grow_with_the_picture() -> None:
    widths = [line_width(np.zeros((10, side, 3), np.uint8)) for side in (100, 640, 2000)]
    assert widths == [1, 2, 6]
    canvas = np.zeros((640, 640, 3), np.uint8)
    draw_box(canvas, np.array([100, 100, 300, 300]), (255, 255, 255))
    assert cv2.countNonZero(canvas[200, :, 0]) in (4, 6)  # two lines, two or three pixels wide
