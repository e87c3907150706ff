"""2.x optimizer, lr_config, runner and workflow keys become 3.x keys."""

from typing import Any

import pytest

from fastdet.config.schema import Experiment
from fastdet.utils.errors import ConfigError, UnsupportedConfig

from .samples import old_config, old_experiment


def scheduled(lr_config: dict[str, Any], **changes: Any) -> list[dict[str, Any]]:
    return [s.to_dict() for s in old_experiment(lr_config=lr_config, **changes).schedule]


def iterations(**changes: Any) -> Experiment:
    config = old_config(runner={"type": "IterBasedRunner", "max_iters": 90000}, **changes)
    return old_experiment(**config)


STEPS = {"type": "MultiStepLR", "begin": 0, "end": 12, "by_epoch": True, "milestones": [8, 11], "gamma": 0.1}
STEP = {"policy": "step", "step": [8, 11]}


def test_steps_without_warm_up() -> None:
    assert scheduled(STEP) == [STEPS]


@pytest.mark.parametrize(
    ("warmup", "phase"),
    [
        ("linear", {"type": "LinearLR", "start_factor": 0.1, "end_factor": 1.0}),
        ("constant", {"type": "ConstantLR", "factor": 0.1}),
        ("exp", {"type": "ExponentialWarmupLR", "start_factor": 0.1}),
    ],
)
def test_each_warm_up_is_a_phase_before(warmup: str, phase: dict[str, Any]) -> None:
    found = scheduled({**STEP, "warmup": warmup, "warmup_iters": 100})
    assert found == [{**phase, "begin": 0, "end": 100, "by_epoch": False}, STEPS]


def test_warm_up_in_epochs() -> None:
    found = scheduled({**STEP, "warmup": "linear", "warmup_iters": 2, "warmup_by_epoch": True})
    assert (found[0]["end"], found[0]["by_epoch"]) == (2, True)


def test_one_number_is_a_step_size() -> None:
    assert scheduled({"policy": "step", "step": 3})[0]["step_size"] == 3


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"policy": "fixed"}, []),
        (
            {"policy": "CosineAnnealing", "min_lr_ratio": 0.1},
            [{"type": "CosineAnnealingLR", "begin": 0, "end": 12, "by_epoch": True, "T_max": 12, "eta_min_ratio": 0.1}],
        ),
        (
            {"policy": "poly", "power": 0.9, "min_lr": 1e-4},
            [{"type": "PolyLR", "begin": 0, "end": 12, "by_epoch": True, "eta_min": 1e-4, "power": 0.9}],
        ),
        (
            {"policy": "poly", "power": 0.9, "min_lr": 1e-4, "by_epoch": False},
            [
                {
                    "type": "PolyLR", "begin": 0, "end": 12, "by_epoch": True, "convert_to_iter_based": True,
                    "eta_min": 1e-4, "power": 0.9,
                },
            ],
        ),
        (
            {"policy": "FlatCosineAnnealing", "start_percent": 0.75, "min_lr": 0},
            [{"type": "CosineAnnealingLR", "begin": 9, "end": 12, "by_epoch": True, "T_max": 3, "eta_min": 0}],
        ),
        (
            {"policy": "exp", "gamma": 0.9},
            [{"type": "ExponentialLR", "begin": 0, "end": 12, "by_epoch": True, "gamma": 0.9}],
        ),
        (
            {"policy": "cyclic", "target_ratio": (10, 1e-4), "cyclic_times": 1, "step_ratio_up": 0.4},
            [
                {
                    "type": "CyclicLR", "begin": 0, "end": 12, "by_epoch": True, "target_ratio": [10, 1e-4],
                    "cyclic_times": 1, "step_ratio_up": 0.4, "anneal_strategy": "cos", "gamma": 1,
                },
            ],
        ),
    ],
)  # fmt: skip
def test_each_policy_has_its_phases(config: dict[str, Any], expected: list[dict[str, Any]]) -> None:
    assert scheduled(config) == expected


def test_yolox_warms_up_sinks_and_stays() -> None:
    policy = {
        "policy": "YOLOX", "warmup": "exp", "by_epoch": False, "warmup_by_epoch": True, "warmup_ratio": 1,
        "warmup_iters": 5, "num_last_epochs": 15, "min_lr_ratio": 0.05,
    }  # fmt: skip
    found = scheduled(policy, runner={"type": "EpochBasedRunner", "max_epochs": 300})
    assert [(p["type"], p["begin"], p["end"]) for p in found] == [
        ("QuadraticWarmupLR", 0, 5), ("CosineAnnealingLR", 5, 285), ("ConstantLR", 285, 300),
    ]  # fmt: skip
    assert found[1]["T_max"] == 285


def test_momentum_has_phases_of_its_own() -> None:
    momentum = {"policy": "cyclic", "target_ratio": (0.85 / 0.95, 1), "cyclic_times": 1, "step_ratio_up": 0.4}
    found = old_experiment(momentum_config=momentum).schedule
    assert [p.type for p in found] == ["LinearLR", "MultiStepLR", "CyclicMomentum"]


def test_unknown_policies_and_arguments() -> None:
    with pytest.raises(UnsupportedConfig, match=r"the policy 'stairs' is not supported\n  config.py:7"):
        scheduled({"policy": "stairs"})
    with pytest.raises(ConfigError, match=r"unknown argument 'steps' for lr_config"):
        scheduled({"policy": "fixed", "steps": [1]})
    with pytest.raises(ConfigError, match="lr_config needs a policy"):
        scheduled({"step": [1]})


def test_iterations_count_everything() -> None:
    found = iterations(lr_config={"policy": "step", "step": [60000, 80000]})
    assert (found.loop.unit, found.loop.length) == ("iter", 90000)
    assert found.schedule[0].args["by_epoch"] is False
    assert found.schedule[0].args["end"] == 90000
    assert (found.runtime.checkpoints.unit, found.runtime.checkpoints.interval) == ("iter", 3)


def test_total_epochs_is_the_runner_of_2_9_and_before() -> None:
    config = old_config(total_epochs=12)
    assert old_experiment(**config) == old_experiment()
    del config["runner"]
    found = old_experiment()
    assert old_experiment(runner=None, total_epochs=12) == found
    with pytest.raises(ConfigError, match=r"total_epochs=9 and runner.max_epochs=12 contradict"):
        old_experiment(total_epochs=9)


def test_half_precision_has_a_scale() -> None:
    found = [old_experiment(fp16={"loss_scale": s}).optimizer for s in (512.0, "dynamic", {"init_scale": 256})]
    assert all(o is not None and o.amp == "fp16" for o in found)
    scales = [(o.loss_scale, o.initial_loss_scale) for o in found if o is not None]
    assert scales == [(512.0, 65536.0), ("dynamic", 65536.0), ("dynamic", 256.0)]


def test_gradients_may_accumulate() -> None:
    hook = {"type": "GradientCumulativeOptimizerHook", "cumulative_iters": 4, "grad_clip": None}
    found = old_experiment(optimizer_config=hook).optimizer
    assert found is not None
    assert (found.accumulate, found.clip) == (4, None)


def test_rules_per_parameter_leave_the_optimizer() -> None:
    rules = {"norm_decay_mult": 0.0, "bias_lr_mult": 1.0}
    found = old_experiment(
        optimizer={"type": "SGD", "lr": 1.0, "paramwise_cfg": rules, "constructor": "Mine"}
    ).optimizer
    assert found is not None
    assert found.groups == {"norm_decay_mult": 0.0, "constructor": "Mine"}
    assert found.algorithm.to_dict() == {"type": "SGD", "lr": 1.0}


def test_validation_loss_is_asked_for_by_the_workflow() -> None:
    found = old_experiment(workflow=[("train", 1), ("val", 1)])
    assert found.runtime.val_loss
    assert found.data.val is not None
    types = [t.type for t in found.data.val.dataset.args["transforms"]]
    assert types == ["LoadImageFromFile", "LoadAnnotations", "Resize"]
    with pytest.raises(ConfigError, match="workflow must be"):
        old_experiment(workflow=[("val", 1)])
