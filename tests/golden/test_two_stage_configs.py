"""MMDetection's own config files, as its wheels ship them, give the networks of the releases."""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from fastdet.compat import load_experiment
from fastdet.models import set_sampling_order, set_tie_order
from fastdet.registry import MODEL_PARTS, build
from fastdet.utils.errors import UnsupportedConfig
from tests.config.wheels import unpack_configs
from tests.golden import recipe
from tests.golden.configs.two_stage import MODELS
from tests.golden.harness import Golden, gradient_error, loss_error, losses, lowest_match, predict

ROOT = Path(__file__).resolve().parents[2]
RELEASES = {"3.3.0": "keys_mmdet3.jsonl.gz", "2.28.2": "keys_mmdet2.jsonl.gz"}
FAMILIES = (
    "cascade_rcnn/",
    "double_heads/",
    "fast_rcnn/",
    "faster_rcnn/",
    "htc/",
    "legacy_1.x/",
    "mask_rcnn/",
    "ms_rcnn/",
    "sabl/",
    "seesaw_loss/",
)
# What these configs ask for is not there: softened suppression, another first stage.
MISSING_PARTS = ("soft-nms", "fcos-rpn")

pytestmark = pytest.mark.slow


@cache
def recorded_shapes(release: str) -> dict[str, dict[str, tuple[int, ...]]]:
    """Every state-dict name with its shape, for each config of the families without a ResNeXt-101."""
    path = ROOT.parent / "shared" / "golden" / RELEASES[release]
    if not path.exists():
        pytest.skip(f"{path.name} is not beside the repository")
    with gzip.open(path, "rt") as lines:
        records: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return {
        r["config"]: {name: tuple(shape) for name, shape in dict(r["keys"]).items()}
        for r in records
        if r.get("keys") and r["config"].startswith(FAMILIES) and "_x101" not in r["config"].replace("-", "_")
    }


@pytest.mark.parametrize("release", RELEASES)
def test_names_and_shapes_equal_those_of_the_release(release: str, tmp_path: Path) -> None:
    shapes, folder = recorded_shapes(release), unpack_configs(release, tmp_path)
    refused, different = [], []
    for config, expected in shapes.items():
        try:
            with torch.device("meta"):
                detector = build(load_experiment(folder / config).model, MODEL_PARTS)
        except UnsupportedConfig:
            refused.append(config)
            continue
        if {name: tuple(value.shape) for name, value in detector.state_dict().items()} != expected:
            different.append(config)
    assert not different
    assert [c for c in refused if not any(part in c for part in MISSING_PARTS)] == []
    assert len(shapes) - len(refused) >= 75


@pytest.mark.parametrize("name", MODELS)
def test_a_stock_config_computes_what_mmdetection_computes(name: str, tmp_path: Path) -> None:
    golden = Golden.load(name)
    folder = unpack_configs("3.3.0", tmp_path)
    spec = load_experiment(folder / (name.replace("__", "/") + ".py")).model
    # Batch augmentations of training were off when the record was made.
    preprocess = spec.args["preprocess"].replace(train_size=None)
    detector = build(spec.replace(preprocess=preprocess), MODEL_PARTS)
    recipe.fill(detector)
    set_sampling_order(detector, "index")
    set_tie_order(detector, "sort")
    assert lowest_match(golden, predict(detector, golden)) >= golden.least_matched
    values, norms = losses(detector, golden)
    assert loss_error(golden, values) <= golden.loss_tolerance
    assert gradient_error(golden, norms) <= golden.gradient_tolerance
