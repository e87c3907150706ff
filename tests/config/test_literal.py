"""Config texts of checkpoints are read without being run."""

import pytest

from fastdet.config.literal import read_literal
from fastdet.registry import Source
from fastdet.utils.errors import ConfigError


def test_spelled_out_values_are_read_with_their_lines() -> None:
    text = "model = dict(\n    type='A', sizes=[(1, 2), -3], inner={'x.y': None})\nlr = float('inf')\n"
    config = read_literal(text, "a.pth:meta.cfg")
    assert config == {"model": {"type": "A", "sizes": [(1, 2), -3], "inner": {"x.y": None}}, "lr": float("inf")}
    assert config.model.sources["sizes"] == Source("a.pth:meta.cfg", 2)


def test_names_sums_and_items_are_understood() -> None:
    text = "root = 'data/'\ntrain = dict(ann=root + 'a.json', **dict(n=8 * 2))\nmean = [1.0] * 3\nx = train['n']\n"
    config = read_literal(text, "a")
    assert config == {
        "root": "data/",
        "train": {"ann": "data/a.json", "n": 16},
        "mean": [1.0, 1.0, 1.0],
        "x": 16,
    }


def test_a_first_line_that_names_the_file_is_left_out() -> None:
    assert read_literal("/home/me/configs/retinanet.py\nx = 1\n", "a") == {"x": 1}
    assert read_literal("/home/me/configs/retinanet.py\nx = 1\n", "a").sources["x"].line == 2


@pytest.mark.parametrize(
    "line",
    [
        "import os",
        "x = __import__('os').system('true')",
        "x = open('a')",
        "x = (lambda: 1)()",
        "x = [i for i in (1, 2)]",
        "x = y",
        "x = 'a' * 100000",
        "x = 1 / 0",
        "def f(): pass",
        "dict(a=1).update(b=2)",
        "x.y = 3",
    ],
)
def test_whatever_would_have_to_be_run_is_refused(line: str) -> None:
    with pytest.raises(ConfigError, match=r"give the config file\n  a:1"):
        read_literal(line, "a")
