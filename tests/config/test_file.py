"""Reading config files: inheritance, templates, positions and errors."""

import copy
import json
import pickle
import sys
from pathlib import Path

import pytest

from fastdet.config.file import ConfigDict, load_config, plain
from fastdet.registry import Source
from fastdet.utils.errors import ConfigError, EnvironmentProblem

from .conftest import Write

DATA = Path(__file__).parent / "data"


def test_dicts_of_bases_are_merged_and_lists_replaced(write: Write) -> None:
    write("a.py", "model = dict(type='A', depth=50, neck=dict(out=256, outs=[1, 2]))")
    write("b.py", "lr = 0.1")
    path = write("c.py", "_base_ = ['./a.py', 'b.py']\nmodel = dict(depth=18, neck=dict(outs=[3]))\nlr = 0.2")
    assert load_config(path) == {
        "model": {"type": "A", "depth": 18, "neck": {"out": 256, "outs": [3]}},
        "lr": 0.2,
    }


def test_base_may_be_one_string_in_another_folder(write: Write) -> None:
    write("_base_/a.py", "x = 1")
    write("middle/b.py", "_base_ = '../_base_/a.py'\ny = 2")
    assert load_config(write("child/c.py", "_base_ = '../middle/b.py'\nz = 3")) == {"x": 1, "y": 2, "z": 3}


def test_delete_drops_the_keys_of_the_base(write: Write) -> None:
    write("a.py", "model = dict(backbone=dict(type='ResNet', depth=50), neck=dict(type='FPN'))")
    path = write(
        "b.py", "_base_ = 'a.py'\nmodel = dict(backbone=dict(_delete_=True, type='VGG'))\nx = dict(_delete_=True)"
    )
    assert load_config(path) == {"model": {"backbone": {"type": "VGG"}, "neck": {"type": "FPN"}}, "x": {}}


def test_python_expressions_run_and_helpers_are_left_out(write: Write) -> None:
    text = """
import math
from pathlib import Path
def double(x):
    return x * 2
norm = dict(mean=[1.0], to_rgb=True)
scale = (1333, 800)
pipeline = [dict(type='Resize', size=scale[0] // 2), dict(type='Normalize', **norm)]
steps = [double(i) for i in range(3)]
half = math.pi > 3
root = 'a' + 'b/'
__hidden__ = 1
"""
    assert load_config(write("a.py", text)) == {
        "norm": {"mean": [1.0], "to_rgb": True},
        "scale": (1333, 800),
        "pipeline": [{"type": "Resize", "size": 666}, {"type": "Normalize", "mean": [1.0], "to_rgb": True}],
        "steps": [0, 2, 4],
        "half": True,
        "root": "ab/",
    }


def test_values_of_bases_are_seen_in_both_notations(write: Write) -> None:
    write("a.py", "root = 'data/'\nargs = None\nhead = dict(num=3, sizes=[4, 5])")
    text = """
_base_ = 'a.py'
one = {{_base_.head.num}}
two = _base_.head.num + 1
three = dict(root={{ _base_.root }}, args={{_base_.args}})
four = '{{ _base_.root }}train'
five = '{{ _base_.head }}'
six = '{{ _base_.head.sizes.1 }}'
"""
    config = load_config(write("b.py", text))
    assert (config.one, config.two, config.three) == (3, 4, {"root": "data/", "args": None})
    assert config.four == "data/train"
    assert config.five == {"num": 3, "sizes": [4, 5]}
    assert config.six == 5


def test_a_file_may_change_and_delete_values_of_its_bases(write: Write) -> None:
    write("a.py", "model = dict(type='A')\nhook = dict(interval=1)\nschedule = [dict(begin=0), dict(begin=5)]")
    text = """
_base_ = 'a.py'
_base_.hook.interval = 4
_base_.schedule[1].begin = 7
detector = _base_.model
del _base_.model
"""
    config = load_config(write("b.py", text))
    assert config == {"hook": {"interval": 4}, "schedule": [{"begin": 0}, {"begin": 7}], "detector": {"type": "A"}}
    assert config.hook.sources["interval"] == Source("b.py", 3)
    assert config.schedule[1].sources["begin"] == Source("b.py", 4)


def test_templates_give_the_file_and_the_environment(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOT_OF_DATA", "/set")
    text = """
work = 'w/{{ fileBasenameNoExtension }}'
name = '{{fileBasename}} {{ fileExtname }}'
folder = '{{ fileDirname }}'
root = '{{$ROOT_OF_DATA:/default}}/x'
other = '{{$NOT_SET_AT_ALL:/default}}/x'
classes = {{'$NOT_SET_AT_ALL:80'}}
"""
    path = write("sub/b.py", text)
    assert load_config(path) == {
        "work": "w/b",
        "name": "b.py .py",
        "folder": path.parent.as_posix(),
        "root": "/set/x",
        "other": "/default/x",
        "classes": 80,
    }


def test_braces_that_are_no_templates_stay(write: Write) -> None:
    config = load_config(write("a.py", "x = 3\na = f'{{x}} {x}'\nb = '{{ x }}'\nc = {1, 2}"))
    assert (config.a, config.b, config.c) == ("{x} 3", "{{ x }}", {1, 2})


def test_every_key_knows_its_file_and_line(write: Write) -> None:
    write("base.py", "norm = dict(\n    mean=1,\n    std=2)\nmodel = dict(\n    type='A',\n    neck=dict(outs=5))\n")
    text = """_base_ = 'base.py'
extra = dict(a=1)
model = dict(
    depth=18,
    neck={
        'outs': 6,
        **extra,
    })
both = dict(**extra, b=2)
if True:
    late = [dict(x=1),
            dict(y=2)]
model['added'] = dict(z=3)
made = {k: 1 for k in 'ab'}
"""
    config = load_config(write("child.py", text))
    model = config.model
    assert config.sources["norm"] == Source("base.py", 1)
    assert config.norm.sources == {"mean": Source("base.py", 2), "std": Source("base.py", 3)}
    assert model.sources["type"] == Source("base.py", 5)
    assert model.sources["depth"] == Source("child.py", 4)
    assert model.sources["added"] == Source("child.py", 13)
    assert model.source == Source("base.py", 4)
    assert model.neck.sources == {"outs": Source("child.py", 6), "a": Source("child.py", 2)}
    assert config.both.sources == {"a": Source("child.py", 2), "b": Source("child.py", 9)}
    assert config.late[1].sources["y"] == Source("child.py", 12)
    assert config.sources["late"] == Source("child.py", 11)
    assert config.made.sources["b"] == Source("child.py", 14)


def test_places_of_one_file_are_not_shared_between_values(write: Write) -> None:
    config = load_config(write("a.py", "x = dict(a=[1])\ny = dict(p=x, q=x)"))
    config.y.p.a.append(2)
    assert config.y.q.a == config.x.a == [1]


def test_config_dicts_copy_and_pickle_with_their_places(write: Write) -> None:
    config = load_config(write("a.py", "x = dict(a=[1])"))
    for other in (copy.deepcopy(config), copy.copy(config), config.copy(), pickle.loads(pickle.dumps(config))):
        assert other == config
        assert other.sources == config.sources
        assert other.x.sources == config.x.sources
    assert type(plain(config)["x"]) is dict
    changed = config | {"x": 1}
    assert "x" not in changed.sources
    assert ConfigDict(config, y=2) == {"x": {"a": [1]}, "y": 2}


def test_missing_attributes_name_the_keys(write: Write) -> None:
    config = load_config(write("a.py", "x = 1\ny = 2"))
    with pytest.raises(AttributeError, match="no key 'z' here \\(keys: x, y\\)"):
        _ = config.z


def test_json_and_yaml_files_inherit_too(write: Write) -> None:
    pytest.importorskip("yaml")
    write("a.py", "model = dict(type='A', depth=50)\nroot = 'data'")
    write(
        "b.json", '{\n "_base_": "a.py",\n "model": {"depth": 18,\n  "sizes": [{"w": 1}]},\n "r": {{ _base_.root }}\n}'
    )
    path = write("c.yaml", "_base_: [b.json]\nmodel:\n  neck: {{_base_.model}}\n  name: '{{ fileBasename }}'\n")
    config = load_config(path)
    first = {"type": "A", "depth": 18, "sizes": [{"w": 1}]}
    assert config == {"model": {**first, "neck": first, "name": "c.yaml"}, "root": "data", "r": "data"}
    assert config.model.sources["depth"] == Source("b.json", 3)
    assert config.model["sizes"][0].sources["w"] == Source("b.json", 4)
    assert config.model.sources["neck"] == Source("c.yaml", 3)


def test_yaml_without_the_extra_names_it(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(EnvironmentProblem, match=r"fastdet\[yaml\]"):
        load_config(write("a.yaml", "x: 1"))


def test_names_of_packages_are_searched_in_the_users_folders(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("mine/family/a.py", "x = 1")
    monkeypatch.setenv("FASTDET_CONFIG_PATH", "mine")
    assert load_config("mmdet::family/a.py") == {"x": 1}
    assert load_config(write("b.py", "_base_ = 'mmdet::family/a'\ny = 2")) == {"x": 1, "y": 2}
    with pytest.raises(ConfigError, match=r"no config 'family/aa.py'(?s:.*)did you mean 'a.py'"):
        load_config("mmdet::family/aa.py")


def test_configs_of_an_installed_package_are_found_without_importing_it(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("site/mmshapes/__init__.py", "raise RuntimeError('imported')")
    write("site/mmshapes/.mim/configs/family/a.py", "x = 1")
    monkeypatch.syspath_prepend("site")
    assert load_config("mmshapes::family/a.py") == {"x": 1}
    assert "mmshapes" not in sys.modules


ERRORS = {
    "a syntax error": ("x = 1\ny = (", r"syntax error: '\(' was never closed\n  a.py:2   y = \("),
    "an exception": (
        "x = 1\ny = dict(\n  a=1,\n  b=x + z)",
        r"NameError: name 'z' is not defined\n  a.py:4   b=x \+ z\)",
    ),
    "a missing base": ("_base_ = 'nosuch.py'", r"not found: nosuch.py(?s:.*)named as _base_ in a.py"),
    "a base of another kind": ("_base_ = 3", r"must be a string or a list of strings, not 3\n  a.py:1"),
    "a base that is computed": ("x = 'b.py'\n_base_ = x", r"written out: name 'x' is not defined\n  a.py:2"),
    "two base lists": ("_base_ = []\n_base_ = 'b.py'", r"set twice(?s:.*)a.py:2"),
    "a base value that is not there": (
        "_base_ = 'base.py'\nx = {{_base_.modle.depth}}",
        r"no 'modle' in _base_; did you mean 'model'\?\n  a.py:2",
    ),
    "an unset variable": ("\nx = '{{$NOT_SET_AT_ALL:}}'", r"'NOT_SET_AT_ALL' is not set(?s:.*)a.py:2"),
    "a dict over a number": (
        "_base_ = 'base.py'\nlr = dict(a=1)",
        r"'lr' is a dict here but of type float in the base config\n  a.py:2  \(here\)\n  base.py:2  \(base\)\n.*_del",
    ),
    "a key given twice": ("x = dict(a=1)\ny = dict(a=2, **x)", r"multiple values for the key 'a'\n  a.py:2"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_file_line_and_fix(case: str, write: Write) -> None:
    write("base.py", "model = dict(depth=1)\nlr = 0.1")
    text, message = ERRORS[case]
    with pytest.raises(ConfigError, match=message):
        load_config(write("a.py", text))


def test_circles_are_shown_as_a_chain(write: Write) -> None:
    write("a.py", "_base_ = 'b.py'")
    write("b.py", "_base_ = ['c.py']")
    write("c.py", "_base_ = './b.py'")
    with pytest.raises(ConfigError, match=r"in a circle:\n  b.py\n  -> c.py\n  -> b.py"):
        load_config("a.py")


def test_a_key_in_two_bases_is_an_error_with_both_places(write: Write) -> None:
    write("a.py", "x = 1")
    write("b.py", "\nx = 2")
    with pytest.raises(ConfigError, match=r"'x' stands in two base files of c.py:\n  a.py:1\n  b.py:2"):
        load_config(write("c.py", "_base_ = ['a.py', 'b.py']"))


def test_other_suffixes_and_malformed_data_files_are_errors(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"must be a .py, .json, .yaml or .yml file, not a.txt"):
        load_config(write("a.txt", ""))
    with pytest.raises(ConfigError, match=r"not valid JSON: (?s:.*)a.json:2"):
        load_config(write("a.json", '{"x": 1,\n y}'))
    with pytest.raises(ConfigError, match=r"must be a mapping"):
        load_config(write("a.json", "[1]"))


def test_close_file_names_are_suggested(write: Write) -> None:
    write("faster_rcnn/faster-rcnn_r50.py", "x = 1")
    with pytest.raises(ConfigError, match=r"did you mean 'faster-rcnn_r50.py'"):
        load_config("faster_rcnn/faster_rcnn_r50.py")
    with pytest.raises(ConfigError, match=r"no folder faster-rcnn; close: faster_rcnn"):
        load_config("faster-rcnn/faster-rcnn_r50.py")


def test_deprecated_configs_warn(write: Write) -> None:
    path = write("a.py", "_deprecation_ = dict(expected='b.py')\nx = 1")
    with pytest.warns(FutureWarning, match="a.py is deprecated; use b.py instead"):
        assert load_config(path) == {"x": 1}


def test_nothing_is_left_behind(write: Write) -> None:
    before = set(sys.modules)
    path = write("a.py", "x = dict(a=1)")
    load_config(path)
    assert set(sys.modules) == before
    assert [p.name for p in path.parent.iterdir()] == ["a.py"]
    assert dict is type({})


def test_the_one_file_mask_rcnn_of_the_tutorial_loads() -> None:
    config = load_config(DATA / "seed004_mask_rcnn.py")
    assert config.model.roi_head.mask_head.type == "FCNMaskHead"
    assert config.train_cfg.rpn_proposal.nms_thr == 0.7
    assert list(config) == [
        "model", "train_cfg", "test_cfg", "dataset_type", "data_root", "img_norm_cfg", "train_pipeline",
        "test_pipeline", "data", "evaluation", "optimizer", "optimizer_config", "lr_config", "total_epochs",
        "checkpoint_config", "log_config", "dist_params", "log_level", "load_from", "resume_from", "workflow",
        "work_dir",
    ]  # fmt: skip
    json.dumps(config)
