"""Misspelt arguments that a translation could swallow are errors at the line where they were written."""

from pathlib import Path

import pytest

from fastdet.compat import load_experiment
from fastdet.utils.errors import ConfigError

BASE = Path(__file__).parents[2] / "configs" / "tiny" / "faster-rcnn_tiny_shapes.py"


def test_a_misspelt_probability_does_not_drop_the_flip(tmp_path: Path) -> None:
    config = tmp_path / "flip.py"
    config.write_text(
        f"_base_ = [{str(BASE)!r}]\n"
        "steps = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='RandomFlip', prop=0.5)]\n"
        "train_dataloader = dict(dataset=dict(pipeline=steps))\n"
    )
    with pytest.raises(ConfigError, match=r"'prop' for RandomFlip\n.*flip\.py:2\n.*'prob'"):
        load_experiment(config)


def test_an_unknown_filter_is_placed_in_its_own_file(tmp_path: Path) -> None:
    config = tmp_path / "filters.py"
    config.write_text(f"_base_ = [{str(BASE)!r}]\ntrain_dataloader = dict(dataset=dict(filter_cfg=dict(min_sise=2)))\n")
    spec = load_experiment(config).data.train.dataset
    assert str(spec.arg_sources["min_sise"]) == f"{config}:2"
