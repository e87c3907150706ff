"""Whole configs: both dialects give one Experiment, unknown names are told apart, nothing is changed."""

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from fastdet.compat import load_experiment, to_experiment
from fastdet.compat.dialect import name_of
from fastdet.registry import Source
from fastdet.utils.errors import ConfigError, UnsupportedConfig

from .samples import model, new_config, new_experiment, old_config, old_experiment, written


def test_both_dialects_give_one_experiment() -> None:
    assert old_experiment() == new_experiment()


def test_the_experiment_holds_what_the_config_says() -> None:
    found = old_experiment()
    assert found.classes == ("a", "b", "c")
    assert found.model.type == "SingleStageDetector"
    assert found.model.args["preprocess"].args["pad_divisor"] == 32
    assert found.loop.length == 12
    assert found.loop.val_interval == 2
    assert found.runtime.checkpoints.interval == 3
    assert found.runtime.log_interval == 20
    assert found.runtime.backend == "gloo"
    assert found.optimizer is not None
    assert found.optimizer.clip == {"max_norm": 35, "norm_type": 2}
    assert found.data.train is not None
    assert found.data.train.batch_size == 4
    assert found.data.train.group_by_aspect_ratio
    json.dumps(found.to_dict())


@pytest.mark.parametrize("config", [old_config, new_config])
def test_translating_changes_nothing_in_the_config(config: Any) -> None:
    values = config()
    before = copy.deepcopy(values)
    to_experiment(values)
    assert values == before


def test_plain_dicts_without_places_are_taken() -> None:
    assert to_experiment(old_config()) == new_experiment()


def test_every_spec_knows_its_place() -> None:
    found = old_experiment()
    assert found.data.train is not None
    assert found.data.train.dataset.source == Source("config.py", 7)
    resize = found.data.train.dataset.args["transforms"][2]
    assert resize.arg_sources["scale"] == Source("config.py", 7)


def test_free_variables_are_allowed_but_misspelt_keys_are_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        old_experiment(my_size=3, train_pipeline=[], max_epochs=4, val_evaluator_of_mine={})
    with pytest.warns(UserWarning, match=r"config.py:7: the top-level name 'optimiser'.*'optimizer'"):
        old_experiment(optimiser={"type": "Adam"})


def test_a_config_needs_a_model() -> None:
    with pytest.raises(ConfigError, match=r"model=dict\(type=\.\.\.\)"):
        to_experiment({"data": {}})


def test_a_config_for_inference_needs_a_model_alone() -> None:
    found = to_experiment({"model": model()})
    assert found.data.train is None
    assert found.optimizer is None
    assert found.schedule == ()


def test_an_unknown_detector_is_refused_with_its_place() -> None:
    with pytest.raises(UnsupportedConfig, match=r"'Nonesuch'.*\n  config.py:7"):
        old_experiment(model={"type": "Nonesuch"})


def test_own_scopes_are_left_out_of_names_and_others_stay() -> None:
    assert name_of({"type": "mmdet.QuadraticWarmupLR"}) == "QuadraticWarmupLR"
    assert name_of({"type": "mmpretrain.ConvNeXt"}) == "mmpretrain.ConvNeXt"
    assert name_of({"type": Path}) == "Path"


def test_overrides_reach_the_experiment(tmp_path: Path) -> None:
    file = tmp_path / "config.py"
    file.write_text("\n".join(f"{key} = {value!r}" for key, value in old_config().items()))
    found = load_experiment(file, ["data.samples_per_gpu=16", "optimizer.lr=0.5"])
    assert found.data.train is not None
    assert found.optimizer is not None
    assert (found.data.train.batch_size, found.optimizer.algorithm.args["lr"]) == (16, 0.5)


def test_imports_are_listed_from_a_string_or_a_list() -> None:
    for imports in ("a.b", ["a.b"]):
        found = old_experiment(custom_imports={"imports": imports, "allow_failed_imports": False})
        assert found.runtime.custom_imports == ("a.b",)
    with pytest.warns(UserWarning, match="not followed"):
        old_experiment(custom_imports=written({"imports": "a.b", "allow_failed_imports": True}))
