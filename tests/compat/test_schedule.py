"""3.x optimizers, schedules and loops become the schema's."""

from typing import Any

import pytest

from fastdet.compat.schedule import check_loop, loop, optimizer, schedule
from fastdet.config.schema import Loop, Optimizer
from fastdet.registry import FrozenDict, Spec
from fastdet.utils.errors import ConfigError, UnsupportedConfig

from .samples import written

SGD = {"type": "SGD", "lr": 0.1}


def wrapped(**changes: Any) -> Optimizer | None:
    return optimizer(written({"optimizer": SGD, **changes}))


def phase(length: Loop | None = None, **values: Any) -> Spec:
    (found,) = schedule([written(values)], length or Loop(length=12))
    return found


def test_an_optimizer_without_more_words() -> None:
    assert wrapped() == Optimizer(algorithm=Spec.of("SGD", lr=0.1))
    assert wrapped(type="OptimWrapper", clip_grad=None, accumulative_counts=1, paramwise_cfg=None) == wrapped()
    assert optimizer(None) is None


def test_precision_of_the_wrapper() -> None:
    half = wrapped(type="AmpOptimWrapper")
    assert half == Optimizer(algorithm=Spec.of("SGD", lr=0.1), amp="fp16")
    brain = wrapped(type="AmpOptimWrapper", dtype="bfloat16", loss_scale=512)
    assert brain == Optimizer(algorithm=Spec.of("SGD", lr=0.1), amp="bf16", loss_scale=512.0)


def test_clipping_and_groups() -> None:
    found = wrapped(clip_grad={"max_norm": 35}, paramwise_cfg={"bias_lr_mult": 2.0, "norm_decay_mult": 1})
    assert found is not None
    assert found.clip == FrozenDict(max_norm=35, norm_type=2)
    assert found.groups == FrozenDict(bias_lr_mult=2.0)


@pytest.mark.parametrize("change", [{"type": "ApexOptimWrapper"}, {"clip_grad": {"type": "value", "clip_value": 1}}])
def test_wrappers_and_clipping_that_fastdet_lacks(change: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedConfig, match=r"config\.py:7"):
        wrapped(**change)


def test_an_optimizer_needs_a_type() -> None:
    with pytest.raises(ConfigError, match="optim_wrapper needs an optimizer with a type"):
        wrapped(optimizer={"lr": 0.1})


def test_defaults_of_phases_are_filled_in() -> None:
    assert phase(type="LinearLR", by_epoch=False, end=500) == Spec.of(
        "LinearLR", begin=0, end=500, by_epoch=False, start_factor=1 / 3, end_factor=1.0
    )


def test_an_end_after_the_training_is_the_trainings() -> None:
    found = [phase(type="MultiStepLR", milestones=[8], **end) for end in ({}, {"end": 12}, {"end": 99})]
    assert len(set(map(str, found))) == 1
    assert found[0].args["end"] == 12
    assert phase(type="MultiStepLR", milestones=[8], end=10).args["end"] == 10


def test_a_cosine_reaches_its_end() -> None:
    assert phase(type="CosineAnnealingLR", begin=2).args == {
        "begin": 2, "end": None, "by_epoch": True, "T_max": 10, "eta_min": 0,
    }  # fmt: skip


def test_phases_without_a_table_are_carried() -> None:
    assert phase(type="mmdet.MyLR", speed=3).to_dict() == {
        "type": "MyLR", "begin": 0, "end": None, "by_epoch": True, "speed": 3,
    }  # fmt: skip


def test_wrong_phases() -> None:
    with pytest.raises(ConfigError, match="MultiStepLR needs the argument 'milestones'"):
        phase(type="MultiStepLR")
    with pytest.raises(ConfigError, match=r"unknown argument 'gama' for MultiStepLR\n  config.py:7"):
        phase(type="MultiStepLR", milestones=[1], gama=0.1)


def test_loops_of_both_kinds() -> None:
    assert loop(written({"max_epochs": 3})) == Loop(length=3)
    assert loop(written({"by_epoch": False, "max_iters": 9.0})) == Loop(unit="iter", length=9, val_interval=1000)
    found = loop(
        written({"type": "IterBasedTrainLoop", "max_iters": 9, "val_interval": 3, "dynamic_intervals": [(6, 1)]})
    )
    assert found == Loop(unit="iter", length=9, val_interval=3, dynamic_intervals=((6, 1),))
    assert loop(None) == Loop()


def test_wrong_loops() -> None:
    with pytest.raises(UnsupportedConfig, match=r"'TeacherLoop' is not supported\n  config.py:7"):
        loop(written({"type": "TeacherLoop"}))
    with pytest.raises(ConfigError, match="train_cfg needs max_epochs"):
        loop(written({"type": "EpochBasedTrainLoop"}))
    with pytest.raises(ConfigError, match="train_cfg: length must be a whole number of at least 1"):
        loop(written({"max_epochs": 0}))
    with pytest.raises(UnsupportedConfig, match="fp16=True"):
        check_loop(written({"val_cfg": {"type": "ValLoop", "fp16": True}}), "val_cfg", ("ValLoop",))
