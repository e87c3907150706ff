"""YOLOX-Nano with weights trained on COCO: the AP of the exported file, and of its int8 form."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import onnx
import pytest
import torch

from fastdet.build import build_detector
from fastdet.calibrating import Calibration
from fastdet.compat import load_experiment
from fastdet.deploy.graph import GraphOptions
from fastdet.deploy.onnx_file import read_metadata, save_model, set_metadata
from fastdet.deploy.quantise import quantise
from fastdet.export import main as export
from fastdet.test import main as evaluate
from tests.golden.yolox_weights import state_dict

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
WEIGHTS = SHARED / "weights" / "yolox_nano.onnx"
CONFIG = ROOT / "configs" / "yolox" / "yolox_nano_coco.py"
OPTIONS = [
    "test_dataloader.dataset.pipeline.1.type=FixScaleResize",
    "model.test_cfg.score_thr=0.001",
    "test_dataloader.num_workers=0",
    "test_dataloader.batch_size=4",
]

pytestmark = [
    pytest.mark.skipif(not WEIGHTS.is_file(), reason="the trained YOLOX-Nano lies beside the repository"),
    pytest.mark.slow,
]


class Trained(NamedTuple):
    """What was exported from the trained weights, and how the command ended."""

    file: Path
    code: int


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    folder = tmp_path_factory.mktemp("yolox")
    checkpoint, file = folder / "yolox_nano.pth", folder / "yolox_nano.onnx"
    model = build_detector(load_experiment(CONFIG))
    model.load_state_dict(state_dict(WEIGHTS, model))
    torch.save({"state_dict": model.state_dict(), "meta": {}}, checkpoint)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COCO_ROOT", str(SHARED / "coco_tiny"))
        arguments = [str(CONFIG), str(checkpoint), "--shape", "416", "416", "--whole-images", "--output", str(file)]
        yield Trained(file, export([*arguments, "--verify", "4", "--cfg-options", *OPTIONS]))


def average_precision(weights: Path, folder: Path) -> float:
    assert evaluate([str(CONFIG), str(weights), "--work-dir", str(folder), "--cfg-options", *OPTIONS]) == 0
    (metrics,) = (json.loads(file.read_text()) for file in folder.glob("*/*.json"))
    return metrics["coco/bbox_mAP"]


def test_the_exported_file_has_the_ap_of_the_trained_weights(trained: Trained, tmp_path: Path) -> None:
    assert trained.code == 0
    assert json.loads(trained.file.with_suffix(".json").read_text())["verification"]["matched"] > 500
    assert average_precision(trained.file, tmp_path) == pytest.approx(0.306, abs=0.002)


def test_int8_loses_little(trained: Trained, tmp_path: Path) -> None:
    model = onnx.load(trained.file)
    metadata = read_metadata(model, trained.file.name)
    graph = GraphOptions(shape=metadata.shape, whole_images=True)
    quantised = quantise(model, Calibration(load_experiment(CONFIG, OPTIONS), graph, None, 40))
    set_metadata(quantised, replace(metadata, precision="int8"))
    kinds = [node.op_type for node in quantised.graph.node]
    assert kinds.count("QuantizeLinear") > 50
    save_model(quantised, tmp_path / "int8.onnx")
    assert average_precision(tmp_path / "int8.onnx", tmp_path) >= 0.29
