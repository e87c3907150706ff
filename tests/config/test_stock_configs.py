"""Configs of MMDetection's releases, resolved and written down, load back."""

import re
from pathlib import Path

import pytest

from fastdet.config.dump import dump_python
from fastdet.config.file import load_config

from .wheels import unpack_configs


@pytest.mark.parametrize("release", ["3.3.0", "2.28.2"])
def test_resolved_stock_configs_load_back_equal_and_know_their_lines(release: str, tmp_path: Path) -> None:
    root = unpack_configs(release, tmp_path)
    names = ["faster_rcnn/faster-rcnn_r50-caffe_fpn_ms-1x_coco.py", "retinanet/retinanet_r50_fpn_amp-1x_coco.py"]
    if release == "2.28.2":
        names = [
            "faster_rcnn/faster_rcnn_r50_caffe_fpn_mstrain_1x_coco.py",
            "retinanet/retinanet_r50_fpn_fp16_1x_coco.py",
        ]
    for name in names:
        config = load_config(root / name)
        copy = tmp_path / "copy.py"
        copy.write_text(dump_python(config))
        assert load_config(copy) == config
        for key, source in config.model.backbone.sources.items():
            line = Path(source.file).read_text().splitlines()[source.line - 1]
            assert re.search(rf"\b{key}\b", line), f"{source} does not show {key}"
