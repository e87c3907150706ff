"""Backbones that detectors take from MMPretrain give its maps, under its names of weights.

`mmpretrain.jsonl` holds, for each network, MMPretrain 1.2.0's maps of the recipe's first image, with its weights.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fastdet.compat.models.backbones import translate_backbone
from fastdet.config.configdict import adopt
from fastdet.registry import BACKBONES, MODEL_PARTS, Source, build
from tests.golden import recipe

RECORDS = [json.loads(line) for line in (Path(__file__).parent / "mmpretrain.jsonl").read_text().splitlines()]


def name_of(record: dict[str, Any]) -> str:
    return f"{record['type']} {record.get('arch', record.get('depth'))}" + (" deep" if "deep_stem" in record else "")


@pytest.mark.parametrize("record", RECORDS, ids=name_of)
def test_a_network_of_mmpretrain_gives_its_maps(record: dict[str, Any]) -> None:
    node = {key: value for key, value in record.items() if key not in ("keys", "maps")}
    spec, _ = translate_backbone(adopt(node, Source("config.py", 1)))
    model = build(spec, (BACKBONES, *MODEL_PARTS))
    lines = "\n".join(f"{key} {list(value.shape)}" for key, value in sorted(model.state_dict().items()))
    assert hashlib.sha256(lines.encode()).hexdigest().startswith(record["keys"])
    recipe.fill(model)
    model.eval()
    for size, expected in record["maps"].items():
        height, width = map(int, size.split("x"))
        with torch.no_grad():
            maps = model((recipe.image(0, (height, width)).float()[None] - 110) / 60)
        assert [list(x.shape) for x in maps] == [e["shape"] for e in expected]
        for found, row in zip(maps, expected, strict=True):
            assert float(found.double().norm()) == pytest.approx(row["norm"], rel=1e-5)
            torch.testing.assert_close(found[0, :4, 0, 0], torch.tensor(row["corner"]), rtol=1e-4, atol=1e-5)
