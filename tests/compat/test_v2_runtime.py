"""2.x evaluation, checkpoints, logs, seeds and hooks become 3.x keys."""

from typing import Any

import pytest

from fastdet.compat.v2_runtime import evaluators
from fastdet.config.configdict import adopt
from fastdet.config.schema import Ema
from fastdet.utils.errors import ConfigError, UnsupportedConfig

from .samples import old_config, old_experiment

COCO = {"type": "CocoDataset", "ann_file": "a.json", "data_prefix": {"img": "i/", "seg": "s/"}}


def evaluator(evaluation: dict[str, Any] | None, dataset: Any) -> Any:
    return evaluators(None if evaluation is None else adopt(evaluation), adopt(dataset))


def test_a_coco_dataset_is_scored_by_boxes_without_more_words() -> None:
    assert evaluator(None, COCO) == {"type": "CocoMetric", "ann_file": "a.json", "metric": "bbox"}


def test_arguments_of_evaluate_go_to_the_metric() -> None:
    evaluation = {
        "interval": 1, "metric": ["bbox", "segm"], "classwise": True, "iou_thrs": [0.5], "jsonfile_prefix": "out",
        "save_best": "auto",
    }  # fmt: skip
    assert evaluator(evaluation, COCO) == {
        "type": "CocoMetric", "ann_file": "a.json", "metric": ["bbox", "segm"], "classwise": True, "iou_thrs": [0.5],
        "outfile_prefix": "out",
    }  # fmt: skip


@pytest.mark.parametrize(("folder", "mode"), [("VOC2007/", "11points"), ("VOC2012/", "area")])
def test_voc_2007_has_eleven_points(folder: str, mode: str) -> None:
    dataset = {"type": "VOCDataset", "data_root": "d", "data_prefix": {"sub_data_root": folder}}
    assert evaluator({"metric": "mAP"}, dataset) == {"type": "VOCMetric", "metric": "mAP", "eval_mode": mode}
    assert evaluator({"metric": "mAP", "iou_thr": 0.7}, dataset)["iou_thrs"] == 0.7


def test_wrapped_datasets_are_looked_into() -> None:
    assert evaluator(None, {"type": "RepeatDataset", "dataset": COCO})["type"] == "CocoMetric"
    found = evaluator(None, {"type": "ConcatDataset", "datasets": [COCO, COCO]})
    assert (found["type"], len(found["metrics"])) == ("MultiDatasetsEvaluator", 2)


def test_other_families_have_their_metrics() -> None:
    lvis = evaluator(None, {**COCO, "type": "LVISV1Dataset"})
    assert lvis["type"] == "LVISMetric"
    coco, cityscapes = evaluator({"metric": ["cityscapes", "bbox"]}, {**COCO, "type": "CityscapesDataset"})
    assert (coco["type"], cityscapes["type"], cityscapes["seg_prefix"]) == ("CocoMetric", "CityScapesMetric", "i")
    assert evaluator({"metric": ["PQ"]}, {**COCO, "type": "CocoPanopticDataset"})["seg_prefix"] == "s"


def test_unknown_metrics_and_arguments() -> None:
    with pytest.raises(UnsupportedConfig, match="the metric 'f1' of a CocoDataset"):
        evaluator({"metric": "f1"}, COCO)
    with pytest.raises(ConfigError, match="unknown argument 'metrics' for evaluation"):
        evaluator({"metrics": "bbox"}, COCO)


@pytest.mark.parametrize(
    ("best", "name"), [("auto", "auto"), ("bbox_mAP", "coco/bbox_mAP"), ("coco/segm_mAP", "coco/segm_mAP")]
)
def test_the_best_checkpoints_metric_gets_its_prefix(best: str, name: str) -> None:
    found = old_experiment(evaluation={"interval": 1, "save_best": best, "rule": "greater"}).runtime.checkpoints
    assert (found.save_best, found.rule, found.interval) == (name, "greater", 3)


def test_validation_may_start_late_and_change_its_interval() -> None:
    found = old_experiment(evaluation={"interval": 5, "start": 10, "dynamic_intervals": [(285, 1)]}).loop
    assert (found.val_interval, found.val_begin, found.dynamic_intervals) == (5, 10, ((285, 1),))


def test_checkpoint_settings_are_kept() -> None:
    settings = {"interval": 2, "max_keep_ckpts": 3, "save_optimizer": False, "create_symlink": True}
    found = old_experiment(checkpoint_config=settings).runtime.checkpoints
    assert (found.interval, found.keep, found.save_optimizer) == (2, 3, False)


def test_loggers_to_other_programs_are_warned_of() -> None:
    hooks = [{"type": "TextLoggerHook"}, {"type": "TensorboardLoggerHook"}]
    with pytest.warns(UserWarning, match="TensorboardLoggerHook is left out"):
        old_experiment(log_config={"interval": 50, "hooks": hooks})


def test_where_a_run_goes_on() -> None:
    found = old_experiment(resume_from="a.pth", load_from="b.pth").runtime
    assert (found.resume, found.load_from) == (True, "a.pth")
    found = old_experiment(load_from="b.pth").runtime
    assert (found.resume, found.load_from) == (False, "b.pth")
    assert old_experiment(auto_resume=True).runtime.resume


def test_seeds() -> None:
    found = old_experiment(seed=3, deterministic=True).runtime
    assert (found.seed, found.deterministic) == (3, True)


@pytest.mark.parametrize(
    ("hook", "ema"),
    [
        (
            {"type": "ExpMomentumEMAHook", "momentum": 0.0001, "total_iter": 500, "resume_from": None, "priority": 49},
            Ema(kind="exponential", momentum=0.0001, gamma=500, update_buffers=True),
        ),
        (
            {"type": "LinearMomentumEMAHook", "skip_buffers": True},
            Ema(kind="linear", momentum=0.0002, gamma=100, update_buffers=False),
        ),
    ],
)
def test_averaged_weights(hook: dict[str, Any], ema: Ema) -> None:
    assert old_experiment(custom_hooks=[hook]).runtime.ema == ema


def test_without_a_validation_set_there_are_no_metrics() -> None:
    config = old_config()
    del config["data"]["val"], config["data"]["test"]
    found = old_experiment(**config)
    assert (found.data.val, found.val_metrics, found.test_metrics) == (None, (), ())


def test_open_images_has_a_map_of_its_own() -> None:
    found = evaluator({"metric": "mAP", "iou_thr": 0.6}, {"type": "OpenImagesDataset", "ann_file": "a.csv"})
    assert found == {"type": "OpenImagesMetric", "iou_thrs": 0.6}
