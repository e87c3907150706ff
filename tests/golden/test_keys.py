"""Every parameter of a stock config has the name and shape that MMDetection's own model has.

The lists come from building MMDetection 3.3.0 and 2.28.2; they lie beside the repository, not in it.
"""

import functools
import gzip
import json
from pathlib import Path

import pytest
import torch

from fastdet.compat.models import translate_model
from fastdet.compat.v2 import upgrade
from fastdet.config.file import load_config
from fastdet.registry import DETECTORS, MODEL_PARTS, Spec, build
from tests.config.wheels import unpack_configs

LISTS = Path(__file__).resolve().parents[3] / "shared" / "golden"
FAMILIES = ("retinanet/retinanet_r", "rpn/rpn_r", "pascal_voc/retinanet_r")
RELEASES = [("3.3.0", "keys_mmdet3.jsonl.gz"), ("2.28.2", "keys_mmdet2.jsonl.gz")]
Shapes = dict[str, list[int]]


def expected_keys(file: str) -> dict[str, Shapes]:
    """Names and shapes of each config of the families, by config."""
    if not (LISTS / file).exists():
        pytest.skip(f"{LISTS / file} is not here")
    with gzip.open(LISTS / file, "rt") as lines:
        records = [json.loads(line) for line in lines]
    return {r["config"]: r["keys"] for r in records if r["config"].startswith(FAMILIES) and r.get("keys")}


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
    assert len(lists) >= 7
    for config, shapes in lists.items():
        expected = {
            # 2.x names the head of a proposal network on its own after its kind
            name.replace("rpn_head.", "bbox_head.") if config.startswith("rpn/") else name: shape
            for name, shape in shapes.items()
        }
        spec, _ = translate_model(upgrade(load_config(configs / config))["model"])
        assert own_keys(spec) == expected, config
