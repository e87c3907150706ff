"""RepPoints, VFNet, FoveaBox, PAA, TOOD, FreeAnchor and YOLOv3 dicts become Specs, or are refused by name."""

from collections.abc import Callable
from typing import Any

import pytest

from fastdet.compat.models import translate_model
from fastdet.registry import Spec
from fastdet.utils.errors import ConfigError, FastdetError, UnsupportedConfig
from tests.golden.configs import dense_refined as models
from tests.golden.configs.dense import retinanet_r18

Model = Callable[[], dict[str, Any]]


def yolov3() -> dict[str, Any]:
    """A YOLOV3Head with the release's defaults, on features it would not fit."""
    model = retinanet_r18() | {"type": "YOLOV3"}
    total = {"use_sigmoid": True, "reduction": "sum"}
    losses: dict[str, Any] = {
        name: {"type": "CrossEntropyLoss", **total} for name in ("loss_cls", "loss_conf", "loss_xy")
    }
    losses["loss_wh"] = {"type": "MSELoss", "reduction": "sum"}
    model["bbox_head"] = {"type": "YOLOV3Head", "num_classes": 80, "in_channels": [512, 256, 128], **losses}
    assigner = {"type": "GridAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.5, "min_pos_iou": 0}
    model["train_cfg"] = {"assigner": assigner}
    model["test_cfg"]["conf_thr"] = 0.005
    return model


def stage(model: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the detector's stage."""
    return dict(translate_model(model)[0].args["dense"].args)


def test_points_are_assigned_first_by_place_or_by_overlap() -> None:
    assert stage(models.reppoints())["assigner"] == Spec.of("PointAssigner", pos_num=1)
    grid = stage(models.reppoints_grid())["assigner"]
    assert grid.type == "PriorAssigner"
    assert grid.args["scale"] == 4


def test_vfnets_first_distances_are_in_the_upper_ends_of_the_ranges() -> None:
    model = models.vfnet()
    assert translate_model(model)[0].args["bbox_head"].args["units"] == (64, 128, 256, 512, 1024)
    model["bbox_head"]["bbox_norm_type"] = "stride"
    assert translate_model(model)[0].args["bbox_head"].args["units"] == (8, 16, 32, 64, 128)


def test_foveas_squares_lie_around_the_cells_centres() -> None:
    priors = stage(models.fovea())["priors"]
    assert priors.args["base_sizes"] == (16, 32, 64, 128, 256)
    assert priors.args["centers"][0] == (4, 4)


def test_paa_votes_and_separates_candidates_by_overlap() -> None:
    parts = stage(models.paa())
    assert parts["assigner"].type == "PriorAssigner"
    assert parts["criterion"].type == "ProbabilisticCriterion"
    assert parts["postprocess"].type == "VotingPostprocess"


def test_losses_of_probabilities_are_those_of_their_logits() -> None:
    criterion = stage(models.tood())["criterion"]
    assert criterion.args["loss_cls"] == Spec.of("QualityFocalLoss")
    assert criterion.args["initial_epoch"] == 4


def test_free_anchor_needs_no_assignment() -> None:
    parts = stage(models.free_anchor())
    assert parts["assigner"] == Spec.of("NoAssigner")
    assert parts["criterion"].args["loss_bbox"] == Spec.of("SmoothL1Loss", beta=0.11, loss_weight=0.75)


def test_yolov3_has_the_anchors_of_the_release() -> None:
    parts = stage(yolov3())
    assert parts["priors"].args["base_sizes"][2] == ((10, 13), (16, 30), (33, 23))
    assert parts["postprocess"].args["conf_thr"] == 0.005
    assert parts["assigner"].args["strides"] == (32, 16, 8)


@pytest.mark.parametrize(
    ("model", "change", "error", "named"),
    [
        (models.reppoints, {"loss_cls": {"type": "CrossEntropyLoss"}}, UnsupportedConfig, "softmax"),
        (models.reppoints, {"points": 9}, ConfigError, "points"),
        (models.vfnet, {"use_atss": False}, UnsupportedConfig, "use_atss"),
        (models.vfnet, {"bbox_norm_type": "pixels"}, ConfigError, "bbox_norm_type"),
        (models.fovea, {"loss_cls": {"type": "CrossEntropyLoss"}}, UnsupportedConfig, "softmax"),
        (models.paa, {"covariance_type": "tied"}, UnsupportedConfig, "covariance_type"),
        (models.tood, {"anchor_type": "anchor_less"}, ConfigError, "anchor_type"),
        (models.free_anchor, {"loss_bbox": {"type": "GIoULoss"}}, UnsupportedConfig, "deltas"),
        (yolov3, {"loss_wh": {"type": "MSELoss"}}, UnsupportedConfig, "reduction='sum'"),
        (yolov3, {"featmap_strides": (16, 8, 4)}, UnsupportedConfig, "strides"),
    ],
)
def test_what_is_not_run_is_refused(
    model: Model, change: dict[str, Any], error: type[FastdetError], named: str
) -> None:
    config = model()
    config["bbox_head"] |= change
    with pytest.raises(error, match=named):
        translate_model(config)
