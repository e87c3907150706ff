"""Normalize and Pad of 2.x pipelines become the model's preprocessing."""

from typing import Any

import pytest

from fastdet.compat.v2 import upgrade
from fastdet.config.configdict import ConfigDict
from fastdet.utils.errors import ConfigError, UnsupportedConfig

from .samples import MEAN, STD, model, new_config, new_experiment, old_config, old_pipelines, written


def with_pipelines(train: list[dict[str, Any]], test: list[dict[str, Any]]) -> ConfigDict:
    config = old_config()
    config["data"]["train"]["pipeline"] = train
    for split in ("val", "test"):
        config["data"][split] = {**config["data"][split], "pipeline": test}
    return upgrade(written(config))


def test_the_numbers_go_into_the_model() -> None:
    assert with_pipelines(*old_pipelines())["model"]["data_preprocessor"] == {
        "type": "DetDataPreprocessor", "mean": tuple(MEAN), "std": tuple(STD), "bgr_to_rgb": True,
        "pad_size_divisor": 32,
    }  # fmt: skip


def test_masks_are_padded_if_the_training_loads_them() -> None:
    train, test = old_pipelines()
    train[1]["with_mask"] = True
    assert with_pipelines(train, test)["model"]["data_preprocessor"]["pad_mask"]


def test_without_pad_there_is_no_multiple() -> None:
    train, test = old_pipelines()
    del train[5], test[1]["transforms"][3]
    assert with_pipelines(train, test)["model"]["data_preprocessor"]["pad_size_divisor"] == 1


def test_a_fixed_size_of_training_images_is_a_batch_augmentation() -> None:
    train, test = old_pipelines()
    train[5] = {"type": "Pad", "size": (480, 640)}
    found = with_pipelines(train, test)["model"]["data_preprocessor"]
    assert found["batch_augments"] == [{"type": "BatchFixedSizePad", "size": (480, 640)}]
    assert found["pad_size_divisor"] == 32


def test_different_multiples_are_refused() -> None:
    train, test = old_pipelines()
    train[5] = {"type": "Pad", "size_divisor": 16}
    with pytest.raises(UnsupportedConfig, match=r"pad to different multiples: \[16, 32\]"):
        with_pipelines(train, test)
    del train[5]
    with pytest.raises(UnsupportedConfig, match=r"pad to different multiples: \[1, 32\]"):
        with_pipelines(train, test)


def test_images_padded_before_normalising_fit_the_tests_multiple() -> None:
    train, test = old_pipelines()
    train[4], train[5] = train[5], train[4]
    found = with_pipelines(train, test)
    assert found["model"]["data_preprocessor"]["pad_size_divisor"] == 32
    pipeline = found["train_dataloader"]["dataset"]["pipeline"]
    assert {"type": "Pad", "size_divisor": 32} in pipeline


def test_different_numbers_in_training_and_test_are_refused() -> None:
    train, test = old_pipelines()
    train[4] = {**train[4], "to_rgb": False}
    with pytest.raises(UnsupportedConfig, match="two pipelines normalise with different numbers"):
        with_pipelines(train, test)


def test_colours_after_normalising_are_refused() -> None:
    train, test = old_pipelines()
    train.insert(5, {"type": "PhotoMetricDistortion"})
    with pytest.raises(UnsupportedConfig, match=r"PhotoMetricDistortion after Normalize.*\n  config.py:7"):
        with_pipelines(train, test)


def test_a_preprocessor_with_other_numbers_contradicts() -> None:
    config = new_config()
    normalize = {"type": "Normalize", "mean": [0, 0, 0], "std": [1, 1, 1], "to_rgb": True}
    config["train_dataloader"]["dataset"]["pipeline"].insert(4, normalize)
    with pytest.raises(ConfigError, match="data_preprocessor give different numbers"):
        new_experiment(**config)


def test_a_preprocessor_at_the_top_level_is_the_models() -> None:
    config = new_config()
    preprocessor = config["model"].pop("data_preprocessor")
    config["model"] = model()
    assert new_experiment(**{**config, "data_preprocessor": preprocessor}) == new_experiment()
