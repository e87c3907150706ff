"""Checkpoints written for MMDetection 3.x have the names and shapes of its own models, none missing, none more.

The lists come from building MMDetection 3.3.0; they lie beside the repository, not in it.
"""

import gzip
import json
from pathlib import Path

import pytest
import torch

from fastdet.tools.ckpt import main
from tests.compat.checkpoints import foreign_names
from tests.config.wheels import unpack_configs
from tests.golden.test_keys import LISTS

Shapes = dict[str, tuple[int, ...]]
DETECTRON2 = {
    "faster_rcnn/faster-rcnn_r50-caffe_fpn_1x_coco.py": foreign_names.detectron2_faster_rcnn(),
    "mask_rcnn/mask-rcnn_r50-caffe_fpn_1x_coco.py": foreign_names.detectron2_mask_rcnn(),
    "retinanet/retinanet_r50-caffe_fpn_1x_coco.py": foreign_names.detectron2_retinanet(),
}
FCOS = "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py"
YOLOX = "yolox/yolox_nano_8xb8-300e_coco.py"


@pytest.fixture(scope="module")
def listed() -> dict[str, Shapes]:
    """Names and shapes by config."""
    path = LISTS / "keys_mmdet3.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    with gzip.open(path, "rt") as lines:
        records = [json.loads(line) for line in lines]
    wanted = (*DETECTRON2, FCOS, YOLOX)
    return {r["config"]: {k: tuple(s) for k, s in r["keys"].items()} for r in records if r["config"] in wanted}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("config", [*DETECTRON2, FCOS, YOLOX])
def test_a_checkpoint_written_for_mmdetection_has_its_names(
    config: str, listed: dict[str, Shapes], tmp_path: Path
) -> None:
    """From Detectron2's names, from the predictors' names of 1.x, and from files with wrappers' prefixes."""
    shapes = DETECTRON2.get(config, listed[config])
    if config == FCOS:
        shapes = {
            name.replace(".conv_cls.", ".fcos_cls.").replace(".conv_reg.", ".fcos_reg."): s
            for name, s in shapes.items()
        }
    if config == YOLOX:
        shapes = {f"module.{name}": shape for name, shape in shapes.items() if "num_batches" not in name}
    # One byte a number keeps the files small.
    weights = {name: torch.zeros(shape, dtype=torch.int8) for name, shape in shapes.items()}
    torch.save({"state_dict": weights}, tmp_path / "in.pth")
    path = unpack_configs("3.3.0", tmp_path) / config
    assert main(["to-mmdet", str(tmp_path / "in.pth"), str(tmp_path / "out.pth"), "--cfg", str(path)]) == 0
    written = torch.load(tmp_path / "out.pth", weights_only=True, mmap=True)
    assert {name: tuple(value.shape) for name, value in written["state_dict"].items()} == listed[config]
    assert "model = dict(" in written["meta"]["cfg"]
