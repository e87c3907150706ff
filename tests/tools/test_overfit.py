"""`python -m fastdet.tools.overfit`: what it trains, what it prints, exit codes."""

from pathlib import Path

import pytest

from fastdet import build
from fastdet.compat import load_experiment, to_experiment
from fastdet.config.file import load_config
from fastdet.data.shapes import ShapesConfig, write_shapes
from fastdet.registry import Spec
from fastdet.tools.handful import own_pictures, shapes
from fastdet.tools.overfit import main
from fastdet.tools.small import from_scratch, thinned, with_classes
from fastdet.utils.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests/integration/configs/tiny.py"
RETINANET = ROOT / "tests/integration/configs/retinanet.py"
MASK_RCNN = ROOT / "configs/nuclei/mask-rcnn_thin-r18_fpn_nuclei.py"
SMALL = ("--shapes", "2", "--size", "64", "--lr", "0.01")


@pytest.fixture(autouse=True)
def shapes_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the configs look for their own pictures."""
    monkeypatch.setenv("SHAPES_ROOT", str(tmp_path / "set"))
    return tmp_path / "set"


def test_a_detector_that_learns_ends_with_0_and_one_line_of_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--iterations", "60", "--every", "15", "--target", "0.5", "--work-dir", str(tmp_path / "work"))
    assert main([str(TINY), *SMALL, *options]) == 0
    first, *curve, last = capsys.readouterr().out.splitlines()
    assert first.startswith("2 pictures, ")
    assert curve[-1].split()[1:3] == ["box", "AP50"]
    assert " loss_rpn_cls " in curve[-1]
    assert last.startswith("box AP50 ")
    assert " iterations, " in last
    assert int(curve[-1].split()[0]) == int(last.split()[4])


def test_a_detector_that_does_not_learn_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(RETINANET), *SMALL, "--iterations", "1", "--work-dir", str(tmp_path / "work")]) == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith(": below the target of 0.9")


def test_a_config_without_training_data_cannot_give_its_own_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "bare.py"
    config.write_text(f"_base_ = {str(ROOT / 'configs/_base_/models/faster-rcnn_thin-r18_fpn.py')!r}\n")
    assert main([str(config), "--images", "2"]) == 1
    assert "no train_dataloader" in capsys.readouterr().err


def test_own_pictures_are_the_first_ones_with_objects_and_get_no_augmentation(shapes_root: Path) -> None:
    write_shapes(shapes_root, ShapesConfig(num_train=5, num_val=0, image_size=64, min_side=16, max_side=40))
    experiment = load_experiment(TINY)
    dataset = own_pictures(experiment, 3, 96)
    assert len(dataset) == 3
    sample = dataset.sample(0, None)  # type: ignore[arg-type]  # without chance
    assert sample.image.shape == (96, 96, 3)
    assert sample.boxes.tolist() == (dataset.record(0).boxes * 1.5).tolist()
    with pytest.raises(ConfigError, match="--images 6: the training set has 5 pictures"):
        own_pictures(experiment, 6, 96)


def test_generated_pictures_carry_masks_semantic_maps_and_proposals(tmp_path: Path) -> None:
    dataset = shapes(tmp_path, 2, 64)
    sample = dataset.sample(1, None)  # type: ignore[arg-type]  # without chance
    assert sample.masks is not None
    assert sample.semantic is not None
    assert sample.proposals is not None
    label, mask = int(sample.labels[0]), sample.masks[0]
    assert set(sample.semantic[mask > 0]) == {label}
    assert sample.semantic[sample.masks.sum(axis=0) == 0].tolist().count(3) == (sample.masks.sum(axis=0) == 0).sum()
    assert sample.proposals.min() >= 0
    assert sample.proposals.max() <= 64


def test_heads_get_the_number_of_classes_also_where_the_config_leaves_it_out() -> None:
    model = to_experiment(load_config(MASK_RCNN)).model
    bare = Spec.of("TwoStageDetector", rpn_head=model.args["rpn_head"], roi_head=Spec.of("ConvFCBBoxHead"))
    changed = with_classes(bare, 3)
    assert changed.args["roi_head"].args["num_classes"] == 3
    assert changed.args["rpn_head"] == model.args["rpn_head"]


def test_thinning_divides_all_widths_alike() -> None:
    model = Spec.of(
        "X",
        backbone=Spec.of("ResNet", depth=50),
        neck=Spec.of("FPN", in_channels=(256, 512, 1024, 2048), out_channels=256, num_outs=5),
        bbox_head=Spec.of("RetinaHead", in_channels=256, num_classes=80, num_anchors=9),
    )
    small = thinned(model, 4)
    assert small.args["backbone"].args["base_channels"] == 16
    assert "in_channels" not in small.args["backbone"].args  # a picture has three
    assert small.args["neck"].args["in_channels"] == (64, 128, 256, 512)
    assert small.args["neck"].args["out_channels"] == small.args["bbox_head"].args["feat_channels"] == 64
    assert small.args["bbox_head"].args["num_classes"] == 80


def test_a_backbone_without_a_width_keeps_its_channels() -> None:
    neck = Spec.of("FPN", in_channels=(24, 40, 112, 320), out_channels=256, num_outs=5)
    model = Spec.of("X", backbone=Spec.of("MobileNetV2"), neck=neck)
    small = thinned(model, 4)
    assert small.args["neck"].args["in_channels"] == (24, 40, 112, 320)
    assert small.args["neck"].args["out_channels"] == 64
    with pytest.raises(ConfigError, match="MobileNetV2 has no width"):
        thinned(Spec.of("X", backbone=Spec.of("MobileNetV2")), 4)


def test_nothing_is_frozen_when_there_is_nothing_to_start_from() -> None:
    norm = Spec.of("BN", requires_grad=False)
    backbone = Spec.of("ResNet", depth=18, frozen_stages=1, norm_eval=True, norm=norm)
    model = from_scratch(Spec.of("X", backbone=backbone))
    detector_backbone = build.build(model.args["backbone"], build.MODEL_PARTS)
    assert all(parameter.requires_grad for parameter in detector_backbone.parameters())
    assert detector_backbone.norm_eval is False
