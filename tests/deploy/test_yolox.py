"""YOLOX-Nano with weights trained on COCO, exported: the AP of the original file."""

import json
from pathlib import Path

import pytest
import torch

from fastdet.build import build_detector
from fastdet.compat import load_experiment
from fastdet.export import main as export
from fastdet.test import main as evaluate
from tests.golden.yolox_weights import state_dict

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
WEIGHTS = SHARED / "weights" / "yolox_nano.onnx"
CONFIG = ROOT / "configs" / "yolox" / "yolox_nano_coco.py"

pytestmark = pytest.mark.skipif(not WEIGHTS.is_file(), reason="the trained YOLOX-Nano lies beside the repository")


@pytest.mark.slow
def test_exported_file_has_the_ap_of_the_trained_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_detector(load_experiment(CONFIG))
    model.load_state_dict(state_dict(WEIGHTS, model))
    checkpoint, target = tmp_path / "yolox_nano.pth", tmp_path / "yolox_nano_fastdet.onnx"
    torch.save({"state_dict": model.state_dict(), "meta": {}}, checkpoint)
    monkeypatch.setenv("COCO_ROOT", str(SHARED / "coco_tiny"))
    options = [
        "--cfg-options",
        "test_dataloader.dataset.pipeline.1.type=FixScaleResize",
        "model.test_cfg.score_thr=0.001",
        "test_dataloader.num_workers=0",
        "test_dataloader.batch_size=4",
    ]
    arguments = [str(CONFIG), str(checkpoint), "--shape", "416", "416", "--whole-images", "--output", str(target)]
    assert export([*arguments, "--candidates", "3549", "--verify", "4", *options]) == 0
    assert json.loads(target.with_suffix(".json").read_text())["verification"]["matched"] > 500
    assert evaluate([str(CONFIG), str(target), "--work-dir", str(tmp_path / "work"), *options]) == 0
    (metrics,) = (json.loads(file.read_text()) for file in (tmp_path / "work").glob("*/*.json"))
    assert metrics["coco/bbox_mAP"] == pytest.approx(0.306, abs=0.002)
