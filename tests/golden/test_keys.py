"""Every parameter of a stock config has the name and shape that MMDetection's own model has.

The lists come from building MMDetection 3.3.0 and 2.28.2; they lie beside the repository, not in it.
"""

import functools
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fastdet.compat.models import translate_model
from fastdet.compat.v2 import upgrade
from fastdet.config.file import load_config
from fastdet.registry import DETECTORS, MODEL_PARTS, Spec, build
from fastdet.utils.errors import UnsupportedConfig
from tests.config.wheels import unpack_configs

LISTS = Path(__file__).resolve().parents[3] / "shared" / "golden"
FAMILIES = (
    "cascade_rcnn/",
    "double_heads/",
    "fast_rcnn/",
    "faster_rcnn/",
    "htc/",
    "legacy_1.x/",
    "mask_rcnn/",
    "ms_rcnn/",
    "pascal_voc/retinanet_r",
    "retinanet/retinanet_r",
    "rpn/rpn_r",
    "sabl/",
    "seesaw_loss/",
)
# What this config asks for is not there: another first stage.
MISSING_PART = "fcos-rpn"
RELEASES = [("3.3.0", "keys_mmdet3.jsonl.gz"), ("2.28.2", "keys_mmdet2.jsonl.gz")]
Shapes = dict[str, list[int]]


def expected_keys(file: str) -> dict[str, Shapes]:
    """Names and shapes of each config of the families without a ResNeXt-101, by config."""
    if not (LISTS / file).exists():
        pytest.skip(f"{LISTS / file} is not here")
    with gzip.open(LISTS / file, "rt") as lines:
        records: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return {
        r["config"]: dict(r["keys"])
        for r in records
        if r["config"].startswith(FAMILIES) and r.get("keys") and "_x101" not in r["config"].replace("-", "_")
    }


@functools.cache
def own_keys(spec: Spec) -> Shapes:
    """Names and shapes of a detector."""
    with torch.device("meta"):
        detector = build(spec, (DETECTORS, *MODEL_PARTS))
    return {name: list(value.shape) for name, value in detector.state_dict().items()}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("release", "file"), RELEASES)
def test_state_dicts_have_the_keys_of_the_release(release: str, file: str, tmp_path: Path) -> None:
    lists = expected_keys(file)
    configs = unpack_configs(release, tmp_path)
    assert len(lists) >= 90
    refused = []
    for config, shapes in lists.items():
        expected = {
            # 2.x names the head of a proposal network on its own after its kind
            name.replace("rpn_head.", "bbox_head.") if config.startswith("rpn/") else name: shape
            for name, shape in shapes.items()
        }
        try:
            spec, _ = translate_model(upgrade(load_config(configs / config))["model"])
        except UnsupportedConfig:
            refused.append(config)
            continue
        assert own_keys(spec) == expected, config
    assert all(MISSING_PART in config for config in refused)
