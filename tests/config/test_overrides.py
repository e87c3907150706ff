"""Overrides from the command line: typed values, where they go, and what is refused."""

import warnings
from pathlib import Path
from typing import Any

import pytest

from fastdet.config.configdict import ConfigDict
from fastdet.config.file import load_config
from fastdet.config.overrides import apply_overrides, parse_overrides, parse_value
from fastdet.utils.errors import ConfigError

VALUES: list[tuple[str, Any]] = [
    ("5", 5),
    ("-3", -3),
    ("1e-4", 1e-4),
    ("0.5", 0.5),
    ("true", True),
    ("False", False),
    ("None", None),
    ("none", "none"),
    ("SGD", "SGD"),
    ("", ""),
    ("data/coco/", "data/coco/"),
    ("a b", "a b"),
    ("'5'", "5"),
    ('"a, b"', "a, b"),
    ("[1,2]", [1, 2]),
    ("'[1,2]'", [1, 2]),
    ("1,2,3", [1, 2, 3]),
    ("car,truck", ["car", "truck"]),
    ("5,", [5]),
    ("(1,2)", (1, 2)),
    ("(car,)", ("car",)),
    ("[]", []),
    ("()", ()),
    ("[(1333, 640), (1333, 800)]", [(1333, 640), (1333, 800)]),
    ("[[a,b],(c,'1'),None]", [["a", "b"], ("c", "1"), None]),
    ("(1,2),(3,4)", [(1, 2), (3, 4)]),
    ("{'type': 'BN', 'n': [1]}", {"type": "BN", "n": [1]}),
    ("[{'a': 1}]", [{"a": 1}]),
    ("it's", "it's"),
    ("a=b", "a=b"),
]


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_values_are_typed(text: str, value: Any) -> None:
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize("text", ["[1,2", "1)", "([1)]", "{1:", "{a: 1}"])
def test_brackets_that_do_not_match_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--cfg-options x="):
        parse_overrides([f"x={text}"])


@pytest.mark.parametrize("text", ["x", "=3", "a..b=3", ".a=1"])
def test_a_text_without_key_or_value_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="write key=value"):
        parse_overrides([text])


def config() -> ConfigDict:
    return ConfigDict(
        model={
            "type": "RetinaNet",
            "backbone": {"type": "ResNet", "depth": 50, "init_cfg": None},
            "train_cfg": {"allowed_border": -1},
            "heads": [{"num_classes": 80}, {"num_classes": 80}],
            "scales": (1, 2),
        },
        train_dataloader={"batch_size": 2},
        mine={"a": 1},
    )


def changed(*texts: str) -> dict[str, Any]:
    return apply_overrides(config(), parse_overrides(texts))


def test_values_in_dicts_lists_and_tuples_are_replaced() -> None:
    result = changed("model.backbone.depth=18", "model.heads.1.num_classes=3", "model.scales.0=7", "mine.a=[1,2]")
    assert result["model"]["backbone"] == {"type": "ResNet", "depth": 18, "init_cfg": None}
    assert result["model"]["heads"] == [{"num_classes": 80}, {"num_classes": 3}]
    assert result["model"]["scales"] == (7, 2)
    assert result["mine"] == {"a": [1, 2]}


def test_the_given_config_is_not_changed() -> None:
    before = config()
    apply_overrides(before, parse_overrides(["model.backbone.depth=18", "mine.a=3"]))
    assert before == config()


def test_a_dict_is_merged_unless_it_deletes() -> None:
    assert changed("model.backbone={'depth': 18}")["model"]["backbone"]["type"] == "ResNet"
    assert changed("model.backbone={'_delete_': True, 'type': 'VGG'}")["model"]["backbone"] == {"type": "VGG"}
    assert changed("model.backbone=None")["model"]["backbone"] is None


def test_keys_that_mmdetection_knows_may_be_added() -> None:
    result = changed("train_dataloader.num_workers=4", "resume=True", "model.train_cfg.rpn.nms_pre=5", "seed=3")
    assert result["train_dataloader"] == {"batch_size": 2, "num_workers": 4}
    assert (result["resume"], result["seed"]) == (True, 3)
    assert result["model"]["train_cfg"]["rpn"] == {"nms_pre": 5}


def test_parts_may_get_new_arguments_which_they_check_themselves() -> None:
    assert changed("model.backbone.with_cp=True")["model"]["backbone"]["with_cp"] is True
    assert changed("model.backbone.dcn.type=DCN")["model"]["backbone"]["dcn"] == {"type": "DCN"}


def test_the_caller_may_tell_which_keys_the_schema_knows() -> None:
    result = apply_overrides(config(), parse_overrides(["mine.b=2"]), known=lambda path: path == ("mine", "b"))
    assert result["mine"] == {"a": 1, "b": 2}


def test_unknown_keys_are_refused_with_near_names_and_the_way_out() -> None:
    with pytest.raises(ConfigError) as caught:
        changed("model.bakbone.depth=50")
    assert str(caught.value) == (
        "--cfg-options model.bakbone.depth=50 : the config has no key 'bakbone' under 'model' "
        "(keys: type, backbone, train_cfg, heads, scales)\n"
        "  did you mean 'backbone'?\n"
        "  use  --cfg-options +model.bakbone.depth=50  to add a new key on purpose"
    )
    with pytest.raises(
        ConfigError, match=r"no key 'modle' \(keys: model, train_dataloader, mine\)\n  did you mean 'model'"
    ):
        changed("modle.x=1")
    with pytest.raises(
        ConfigError, match=r"no key 'num_worker' under 'train_dataloader'.*\n  did you mean 'num_workers'"
    ):
        changed("train_dataloader.num_worker=1")


def test_a_plus_adds_any_key() -> None:
    result = changed("+model.bakbone.depth=50", "+new.deep.key=[1]")
    assert result["model"]["bakbone"] == {"depth": 50}
    assert result["new"] == {"deep": {"key": [1]}}


def test_paths_through_lists_and_plain_values_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"'model.heads' is a list of 2, so '2' cannot be found"):
        changed("model.heads.2.num_classes=1")
    with pytest.raises(ConfigError, match=r"'model.backbone.depth' is 50, which holds no keys, so 'x.y' cannot be set"):
        changed("model.backbone.depth.x.y=1")
    with pytest.raises(ConfigError, match=r"'model.backbone.init_cfg' is None"):
        changed("model.backbone.init_cfg.type=Pretrained")


def test_overridden_values_name_the_option_as_their_place(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("model = dict(\n    backbone=dict(depth=50,\n        style='caffe'))")
    loaded = load_config(path, ["model.backbone.depth=18", "+model.neck.type=FPN"])
    assert str(loaded.model.backbone.sources["depth"]) == "--cfg-options model.backbone.depth=18"
    assert loaded.model.backbone.sources["style"].line == 3
    assert loaded.model.sources["backbone"].line == 2
    assert str(loaded.model.neck.place("type")) == "--cfg-options +model.neck.type=FPN"


def test_a_variable_that_the_file_has_used_is_changed_with_a_warning() -> None:
    config = ConfigDict(
        data_root="data/x/", train=ConfigDict(root="data/x/", files=["data/x/a.json", "data/xy"]), scale=3
    )
    with pytest.warns(
        UserWarning, match=r"'data_root' before.*\n  set what holds its value instead: train.root, train.files.0$"
    ):
        changed = apply_overrides(config, parse_overrides(["data_root=data/y/"]))
    assert (changed["data_root"], changed["train"]["root"]) == ("data/y/", "data/x/")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        apply_overrides(config, parse_overrides(["data_root=b/", "train.root=b/", "train.files=[b/a.json]"]))
        apply_overrides(config, parse_overrides(["scale=4"]))
