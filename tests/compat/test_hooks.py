"""3.x hooks and runtime keys become the schema's."""

from typing import Any

import pytest

from fastdet.compat.evaluators import metrics
from fastdet.config.schema import Checkpoints, Ema, Runtime
from fastdet.registry import Source, Spec
from fastdet.utils.errors import ConfigError, UnsupportedConfig

from .samples import new_experiment, written


def runtime(**changes: Any) -> Runtime:
    return new_experiment(**changes).runtime


def saved(**hook: Any) -> Checkpoints:
    return runtime(default_hooks={"checkpoint": {"type": "CheckpointHook", **hook}}).checkpoints


def test_checkpoints() -> None:
    assert saved(interval=500, by_epoch=False, max_keep_ckpts=3, save_best=["coco/bbox_mAP"], rule="greater") == (
        Checkpoints(interval=500, unit="iter", keep=3, save_best="coco/bbox_mAP", rule="greater")
    )


def test_without_an_interval_only_the_end_is_saved() -> None:
    assert saved().interval == 12
    assert runtime(default_hooks={"checkpoint": None}).checkpoints.interval == 12


def test_names_of_default_hooks_stand_for_types() -> None:
    found = runtime(default_hooks={"checkpoint": {"interval": 5}, "logger": {"interval": 7}})
    assert (found.checkpoints.interval, found.log_interval) == (5, 7)
    assert runtime(default_hooks={"logger": {"type": "LoggerHook"}}).log_interval == 10


@pytest.mark.parametrize(
    "change", [{"save_last": False}, {"out_dir": "x"}, {"save_begin": 3}, {"save_best": ["a", "b"]}]
)
def test_settings_of_checkpoints_that_fastdet_lacks(change: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedConfig, match=r"config\.py:7"):
        saved(**change)


def test_averaged_weights() -> None:
    hook = {"type": "EMAHook", "ema_type": "ExpMomentumEMA", "momentum": 0.0002, "update_buffers": True, "priority": 49}
    assert runtime(custom_hooks=[hook]).ema == Ema(kind="exponential", momentum=0.0002, update_buffers=True)
    with pytest.raises(UnsupportedConfig, match="two EMAHooks"):
        runtime(custom_hooks=[hook, hook])
    with pytest.raises(UnsupportedConfig, match="StochasticWeightAverage"):
        runtime(custom_hooks=[{"type": "EMAHook", "ema_type": "StochasticWeightAverage"}])


def test_hooks_that_do_what_the_runner_does_are_left_out_and_others_carried() -> None:
    mine = {"type": "Mine", "priority": "LOW", "speed": 3}
    hooks = [{"type": "NumClassCheckHook"}, {"type": "CheckInvalidLossHook", "interval": 50}, mine]
    assert runtime(custom_hooks=hooks).hooks == (Spec.of("Mine", priority="LOW", speed=3),)
    drawing = {"visualization": {"type": "DetVisualizationHook", "draw": True}}
    assert runtime(default_hooks=drawing).hooks == (Spec.of("DetVisualizationHook", draw=True),)


def test_runtime_keys() -> None:
    found = runtime(
        work_dir="w", load_from="a.pth", resume=True, randomness={"seed": 3, "deterministic": True},
        auto_scale_lr={"enable": True, "base_batch_size": 16}, find_unused_parameters=True, sync_bn="torch",
    )  # fmt: skip
    assert (found.work_dir, found.load_from, found.resume) == ("w", "a.pth", True)
    assert (found.seed, found.deterministic) == (3, True)
    assert (found.auto_scale_lr, found.base_batch_size) == (True, 16)
    assert found.find_unused_parameters
    assert found.sync_batch_norm
    assert runtime(model_wrapper_cfg={"find_unused_parameters": True}).find_unused_parameters


def test_unknown_arguments_of_runtime_sections_are_errors() -> None:
    with pytest.raises(ConfigError, match=r"(?s)unknown argument 'enabled' for auto_scale_lr\n  config.py:7.*'enable'"):
        runtime(auto_scale_lr={"enabled": True})


def test_metrics_leave_out_defaults() -> None:
    coco = {"type": "CocoMetric", "ann_file": "d/./a.json", "metric": "bbox", "format_only": False, "prefix": None}
    assert metrics(written(coco), "val_evaluator") == (Spec.of("CocoMetric", ann_file="d/a.json", metric=("bbox",)),)
    voc = {"type": "VOCMetric", "metric": ["mAP"], "collect_device": "gpu"}
    assert metrics([written(voc)], "val_evaluator") == (Spec.of("VOCMetric", metric="mAP", eval_mode="11points"),)
    assert metrics(None, "val_evaluator") == ()


def test_metrics_without_a_table_are_carried() -> None:
    (found,) = metrics(written({"type": "MultiDatasetsEvaluator", "metrics": [{"type": "VOCMetric"}]}), "val_evaluator")
    assert found.args["metrics"] == (Spec.of("VOCMetric", metric="mAP", eval_mode="11points"),)


def test_what_a_base_files_metric_left_over_is_dropped_with_a_warning() -> None:
    node = written({"type": "CocoMetric", "metric": "bbox", "eval_mode": "area"})
    with pytest.raises(ConfigError, match="unknown argument 'eval_mode' for CocoMetric"):
        metrics(node, "val_evaluator")
    node.sources["eval_mode"] = Source("base.py", 3)
    with pytest.warns(UserWarning, match=r"base.py:3: 'eval_mode' is left over"):
        assert metrics(node, "val_evaluator") == (Spec.of("CocoMetric", metric=("bbox",)),)


def test_a_pipeline_to_switch_to_follows_the_rules_of_pipelines() -> None:
    hook = {
        "type": "PipelineSwitchHook",
        "switch_epoch": 280,
        "switch_pipeline": [
            {"type": "LoadImageFromFile", "backend_args": None},
            {"type": "RandomFlip", "prob": 0.5},
            {"type": "PackDetInputs"},
        ],
    }
    (found,) = runtime(custom_hooks=[hook, {"type": "SyncNormHook"}]).hooks
    steps = (Spec.of("LoadImageFromFile"), Spec.of("RandomFlip", prob=0.5))
    assert found == Spec.of("PipelineSwitchHook", switch_epoch=280, switch_pipeline=steps)
