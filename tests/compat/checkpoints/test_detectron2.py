"""Detectron2's files: safe reading, names, the order of anchors."""

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fastdet.build  # noqa: F401 - registers every part
from fastdet.compat.checkpoints import Checkpoint, load_checkpoint, load_into
from fastdet.compat.checkpoints.origins import fit
from fastdet.compat.models import translate_model
from fastdet.config.configdict import adopt
from fastdet.models.priors import AnchorGenerator
from fastdet.registry import MODEL_PARTS, build
from fastdet.utils.errors import CheckpointError
from tests.compat.checkpoints import foreign_names

RESNET = {"resnets": {"out_features": ["res2", "res3", "res4", "res5"]}}
FPN = {
    "backbone": {"name": "build_resnet_fpn_backbone"},
    "fpn": {"in_features": ["res2", "res3", "res4", "res5"]},
    "anchor_generator": {"sizes": [[32], [64], [128], [256], [512]]},
    "rpn": {"in_features": ["p2", "p3", "p4", "p5", "p6"]},
    "roi_heads": {"name": "StandardROIHeads", "in_features": ["p2", "p3", "p4", "p5"]},
    "roi_box_head": {"name": "FastRCNNConvFCHead", "num_fc": 2, "pooler_resolution": 7},
    "roi_mask_head": {"num_conv": 4},
}
RETINANET = {
    "meta_architecture": "RetinaNet",
    "backbone": {"name": "build_retinanet_resnet_fpn_backbone"},
    "resnets": {"out_features": ["res3", "res4", "res5"]},
    "fpn": {"in_features": ["res3", "res4", "res5"]},
    "anchor_generator": {"sizes": [[x, x * 2 ** (1 / 3), x * 2 ** (2 / 3)] for x in (32, 64, 128, 256, 512)]},
}
DETECTORS: dict[str, tuple[dict[str, Any], foreign_names.Shapes]] = {
    "Faster R-CNN": (RESNET | FPN, foreign_names.detectron2_faster_rcnn()),
    "Mask R-CNN": (RESNET | FPN | {"mask_on": True}, foreign_names.detectron2_mask_rcnn()),
    "RetinaNet": (RETINANET, foreign_names.detectron2_retinanet()),
}
Weights = Mapping[str, Tensor]


def detector(settings: dict[str, Any]) -> nn.Module:
    """The network of Detectron2's settings, without memory."""
    spec, _ = translate_model(adopt({"type": "Detectron2Wrapper", "detector": settings}))
    with torch.device("meta"):
        built: nn.Module = build(spec, MODEL_PARTS, role="detector")
    return built


def without_counters(weights: Weights) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in weights.items() if "num_batches_tracked" not in name}


@pytest.mark.filterwarnings("ignore:.*moving average")
@pytest.mark.parametrize("name", DETECTORS)
def test_every_weight_of_the_model_zoo_has_its_place(name: str) -> None:
    settings, shapes = DETECTORS[name]
    own = detector(settings).state_dict()
    found = fit({key: torch.empty(shape, device="meta") for key, shape in shapes.items()}, own)
    assert without_counters(found.weights) == without_counters(own)
    assert found.origin is not None
    assert found.origin.title == "Detectron2"


def test_caffe2_backbones_fill_a_backbone_and_a_detector() -> None:
    own = detector(RESNET | FPN).state_dict()
    shapes = foreign_names.caffe2_resnet50()
    weights = {key: torch.ones(shape) for key, shape in shapes.items() if not key.startswith("res5")}
    expected = {name for name in without_counters(own) if name.startswith("backbone.") and "layer4" not in name}
    found = fit(weights, own).weights
    assert {name for name in found if name in own} == expected
    assert found["backbone.layer1.0.downsample.1.running_mean"].unique().tolist() == [0]
    assert found["backbone.layer1.0.downsample.1.running_var"].unique().tolist() == [1]
    inner = {name.removeprefix("backbone."): value for name, value in own.items() if name.startswith("backbone.")}
    assert {name for name in fit(weights, inner).weights if name in inner} == {n[len("backbone.") :] for n in expected}


def test_anchors_of_several_sizes_are_put_into_our_order() -> None:
    generator = AnchorGenerator(strides=(8,), ratios=(0.5, 1.0, 2.0), octave_base_scale=4, scales_per_octave=3)
    cells = []
    for size in (32, 32 * 2 ** (1 / 3), 32 * 2 ** (2 / 3)):
        for ratio in (0.5, 1.0, 2.0):  # height by width; as Detectron2's generate_cell_anchors
            width = (size**2 / ratio) ** 0.5
            cells.append([-width / 2, -ratio * width / 2, width / 2, ratio * width / 2])
    own = {"bbox_head.retina_reg.bias": torch.zeros(36), "bbox_head.retina_cls.bias": torch.zeros(18)}
    weights = {
        "backbone.bottom_up.stem.conv1.weight": torch.zeros(1),
        "head.bbox_pred.bias": torch.tensor(cells).reshape(-1),
        "head.cls_score.bias": torch.tensor([[10 * anchor, 10 * anchor + 1] for anchor in range(9)]).reshape(-1),
    }
    found = fit(weights, own).weights
    boxes = found["bbox_head.retina_reg.bias"].reshape(9, 4)
    torch.testing.assert_close(boxes, generator.base_anchors[0])
    # Sizes are inner here: the anchors 0, 3, 6 of theirs have the first ratio.
    assert found["bbox_head.retina_cls.bias"].reshape(9, 2)[:4].tolist() == [[0, 1], [30, 31], [60, 61], [10, 11]]


def test_anchors_of_one_size_stay_as_they_are() -> None:
    weights = {
        "backbone.bottom_up.stem.conv1.weight": torch.zeros(1),
        "proposal_generator.rpn_head.anchor_deltas.bias": torch.arange(12.0),
        "proposal_generator.rpn_head.objectness_logits.bias": torch.arange(3.0),
    }
    found = fit(weights, {}).weights
    assert found["rpn_head.rpn_reg.bias"].tolist() == list(range(12))
    assert found["rpn_head.rpn_cls.bias"].tolist() == [0, 1, 2]


def test_c4_detectors_have_the_last_stage_in_their_second_one() -> None:
    names = {
        "backbone.stem.conv1.norm.running_var": "backbone.bn1.running_var",
        "backbone.res4.5.conv3.weight": "backbone.layer3.5.conv3.weight",
        "roi_heads.res5.0.shortcut.norm.bias": "roi_head.shared_head.layer4.0.downsample.1.bias",
        "roi_heads.res5.2.conv1.weight": "roi_head.shared_head.layer4.2.conv1.weight",
        "roi_heads.box_predictor.cls_score.bias": "roi_head.bbox_head.fc_cls.bias",
    }
    assert dict(fit({name: torch.zeros(1) for name in names}, {}).renamed) == names


def test_a_pkl_of_arrays_is_read_and_loaded(tmp_path: Path) -> None:
    arrays = {"stem.conv1.weight": np.ones((2, 3, 1, 1), np.float32), "stem.conv1.norm.weight": np.full(2, 5.0)}
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "torchvision", "matching_heuristics": True}, 2))
    checkpoint = load_checkpoint(path)
    assert checkpoint.extras["__author__"] == "torchvision"
    model = nn.ModuleDict({"conv1": nn.Conv2d(3, 2, 1, bias=False), "bn1": nn.BatchNorm2d(2)})
    report = load_into(model, checkpoint, strict=False)
    assert report.origin == "Detectron2"
    assert report.renamed[0] == ("stem.conv1.weight", "conv1.weight")
    assert model.state_dict()["bn1.weight"].tolist() == [5, 5]


def test_blobs_of_detectron_are_found(tmp_path: Path) -> None:
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({"blobs": {"conv1_w": np.zeros((1, 2), np.float32), "lr": 0.1}}))
    assert list(load_checkpoint(path).state_dict) == ["conv1_w"]


class Harmful:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return print, ("harm",)


@pytest.mark.parametrize("content", [{"model": Harmful()}, Harmful()])
def test_a_pkl_with_other_types_is_refused_without_running_them(
    content: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError, match=r"saved by pickle with builtins.print: only plain values and NumPy"):
        load_checkpoint(path)
    assert capsys.readouterr().out == ""


def test_a_damaged_pkl_is_said_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x80\x04nonsense")
    with pytest.raises(CheckpointError, match="is damaged, or no checkpoint"):
        load_checkpoint(path)


def test_weights_without_a_place_are_reported_with_close_names() -> None:
    model = nn.ModuleDict({"conv1": nn.Conv2d(3, 2, 1, bias=False), "bn1": nn.BatchNorm2d(2)})
    weights = OrderedDict({"stem.conv1.weight": torch.ones(2, 3, 1, 1), "bn1.wieght": torch.ones(2)})
    report = load_into(model, Checkpoint(path=Path("a.pkl"), state_dict=weights), strict=False)
    assert "4 not in the file: bn1.weight (close: bn1.wieght)" in str(report)
    assert "1 of the file not used: bn1.wieght (close: bn1.weight)" in str(report)
