"""YOLOX-Nano with weights trained on COCO: the outputs of onnxruntime and the AP of the file."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fastdet.build import build_detector
from fastdet.compat import load_experiment
from fastdet.test import main

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
WEIGHTS = SHARED / "weights" / "yolox_nano.onnx"
CONFIG = ROOT / "configs" / "yolox" / "yolox_nano_coco.py"

onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.skipif(not WEIGHTS.is_file(), reason="the trained YOLOX-Nano lies beside the repository")


@pytest.fixture(scope="module")
def detector() -> torch.nn.Module:
    from tests.golden.yolox_weights import state_dict

    model = build_detector(load_experiment(CONFIG))
    model.load_state_dict(state_dict(WEIGHTS, model))
    return model.eval()


def letterbox(file: Path) -> np.ndarray:
    """The picture in the upper left corner of 416 x 416 pixels of grey."""
    image = cv2.imread(str(file))
    ratio = min(416 / image.shape[0], 416 / image.shape[1])
    small = cv2.resize(image, (int(image.shape[1] * ratio), int(image.shape[0] * ratio)))
    square = np.full((416, 416, 3), 114, np.uint8)
    square[: small.shape[0], : small.shape[1]] = small
    return square


def test_raw_outputs_equal_those_of_onnxruntime(detector: torch.nn.Module) -> None:
    session = onnxruntime.InferenceSession(str(WEIGHTS), providers=["CPUExecutionProvider"])
    files = sorted((SHARED / "coco_tiny" / "val2017").glob("*.jpg"))[:2]
    pixels = np.stack([letterbox(file).transpose(2, 0, 1) for file in files]).astype(np.float32)
    with torch.inference_mode():
        output = detector(torch.from_numpy(pixels))
    for i in range(len(files)):
        (expected,) = session.run(None, {session.get_inputs()[0].name: pixels[i : i + 1]})
        ours = torch.cat(
            (output.box_deltas[i], output.quality[i][:, None].sigmoid(), output.cls_logits[i].sigmoid()), 1
        )
        np.testing.assert_allclose(ours.numpy(), expected[0], atol=1e-3)


def test_command_scores_the_trained_weights(
    detector: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "yolox_nano.pth"
    torch.save({"state_dict": detector.state_dict(), "meta": {}}, checkpoint)
    monkeypatch.setenv("COCO_ROOT", str(SHARED / "coco_tiny"))
    # The figure's pictures were made with sides rounded down; MMDetection's Resize rounds them half up (AP 0.3034).
    # It counts the best 100 detections of an image; MMDetection's YOLOX keeps all, which gives 0.3078.
    options = [
        "test_dataloader.dataset.pipeline.1.type=FixScaleResize",
        "model.test_cfg.score_thr=0.001",
        "test_dataloader.num_workers=0",
        "test_dataloader.batch_size=4",
    ]
    code = main([str(CONFIG), str(checkpoint), "--work-dir", str(tmp_path / "work"), "--cfg-options", *options])
    assert code == 0
    (metrics,) = (json.loads(file.read_text()) for file in (tmp_path / "work").glob("*/*.json"))
    assert metrics["coco/bbox_mAP"] == pytest.approx(0.306, abs=0.002)
