"""Resolved configs written as Python load back equal."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdet.config.dump import dump_json, dump_python
from fastdet.config.file import load_config, plain
from fastdet.utils.errors import ConfigError

DATA = Path(__file__).parent / "data"


def reloaded(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    path = folder / "dumped.py"
    path.write_text(dump_python(config), encoding="utf-8")
    return plain(load_config(path))


def test_the_text_is_readable() -> None:
    config = {"lr": 0.1, "steps": [8, 11], "model": {"type": "A", "neck": {"type": "FPN"}}, "empty": {}, "one": (1,)}
    assert dump_python(config) == (
        "lr = 0.1\n"
        "steps = [8, 11]\n"
        "model = dict(\n"
        "    type='A',\n"
        "    neck=dict(type='FPN'),\n"
        ")\n"
        "empty = dict()\n"
        "one = (1,)\n"
    )


def test_a_whole_config_loads_back_equal(tmp_path: Path) -> None:
    config = load_config(DATA / "seed004_mask_rcnn.py")
    assert reloaded(config, tmp_path) == config
    assert json.loads(dump_json(config))["workflow"] == [["train", 1]]


def test_odd_names_and_values_load_back_equal(tmp_path: Path) -> None:
    config = {
        "dict": {"a": 1},
        "a-b": [{"for": 1, 2: {"x": ()}}],
        "float": math.inf,
        "template": ["{{ fileBasename }}", "{{$HOME:x}}", "{{{{"],
        "sets": [{1, 2}, set(), frozenset({3})],
        "text": 'it\'s "quoted"\n',
        "long": ["a" * 60, "b" * 60],
        "__hidden": 1,
    }
    loaded = reloaded(config, tmp_path)
    del config["__hidden"]
    assert loaded == config


def test_values_without_a_notation_are_refused_by_key() -> None:
    with pytest.raises(ConfigError, match=r"model.norm.0 is a type, which has no notation"):
        dump_python({"model": {"norm": [int]}})
    with pytest.raises(ConfigError, match="cannot be written as JSON"):
        dump_json({"x": {1, 2}})


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text().filter(lambda k: k != "_delete_"), inner, max_size=4)
    ),
    max_leaves=12,
)
NAMES = st.from_regex(r"[a-z]\w{0,6}", fullmatch=True)


@settings(max_examples=40, deadline=None)
@given(config=st.dictionaries(NAMES, VALUES, max_size=4))
def test_any_plain_config_loads_back_equal(config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    assert reloaded(config, tmp_path_factory.mktemp("dump")) == config
