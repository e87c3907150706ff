"""2.x evaluation, hooks and runtime keys in 3.x form."""

import re
from typing import Any

from fastdet.config.configdict import ConfigDict
from fastdet.utils.errors import UnsupportedConfig

from .dialect import Section, as_list, at, derived, dict_list, name_of, place_of, warn
from .v2_data import XML_DATASETS, joined

COCO_METRICS = frozenset({"bbox", "segm", "proposal", "proposal_fast"})
VOC_METRICS = frozenset({"mAP", "recall"})
# Prefixes of metric names, which 2.x leaves out in save_best.
PREFIXES = {"CocoMetric": "coco", "VOCMetric": "pascal_voc", "LVISMetric": "lvis", "CityScapesMetric": "cityscapes"}
# Loggers that write to a screen or file only.
TEXT_LOGGERS = frozenset({"TextLoggerHook"})


def evaluators(evaluation: ConfigDict | None, dataset: Any) -> Any:
    """The 3.x evaluator of a 2.x dataset (in 3.x form), which evaluated itself; several for a list of datasets.

    Args:
        evaluation: the 2.x section, or None for its defaults.

    Raises:
        UnsupportedConfig: a dataset and metric without a 3.x evaluator.
    """
    if not isinstance(dataset, ConfigDict):
        return None
    if "datasets" in dataset:
        parts = [evaluators(evaluation, part) for part in dataset["datasets"]]
        if len(parts) == 1:
            return parts[0]
        prefixes = [str(index) for index in range(len(parts))]
        return derived(evaluation, type="MultiDatasetsEvaluator", metrics=parts, dataset_prefixes=prefixes)
    if "dataset" in dataset:
        return evaluators(evaluation, dataset["dataset"])
    section = Section(evaluation or {}, "evaluation")
    # Read by `train_loop` and `checkpoints`; a hook's own output folder changes nothing in results.
    section.skip("interval", "start", "dynamic_intervals", "by_epoch", "gpu_collect", "tmpdir", "priority", "out_dir")
    section.skip("save_best", "rule", "type", "logger", "broadcast_bn_buffer")
    kind = name_of(dataset)
    by_map = kind in XML_DATASETS or kind.startswith("OpenImages")
    metric = section.take("metric", "mAP" if by_map else "bbox")
    wanted = set(as_list(metric))
    result = derived(evaluation or dataset)
    if kind.startswith("OpenImages") and wanted <= {"mAP"}:
        result.update(type="OpenImagesMetric")
        _copy(section, result, {"iou_thr": "iou_thrs", "ioa_thr": "ioa_thrs", "use_group_of": "use_group_of"})
    elif wanted <= VOC_METRICS:
        result.update(type="VOCMetric", metric=metric, eval_mode=_voc_mode(kind, dataset))
        _copy(
            section, result, {"iou_thr": "iou_thrs", "proposal_nums": "proposal_nums", "scale_ranges": "scale_ranges"}
        )
    elif wanted <= COCO_METRICS and "Panoptic" not in kind:
        result.update(type="LVISMetric" if kind.startswith("LVIS") else "CocoMetric")
        result.update(ann_file=_path(dataset, "ann_file"), metric=metric)
        _coco_arguments(section, result)
    elif kind == "CityscapesDataset" and wanted <= COCO_METRICS | {"cityscapes"}:
        coco = derived(result, type="CocoMetric", ann_file=_path(dataset, "ann_file"))
        coco["metric"] = sorted(wanted - {"cityscapes"})
        _coco_arguments(section, coco)
        prefix = (dataset.get("data_prefix") or {}).get("img", "")
        result.update(type="CityScapesMetric", seg_prefix=joined(dataset.get("data_root"), prefix))
        section.finish("metric")
        return [coco, result] if coco["metric"] else result
    elif "Panoptic" in kind and wanted <= COCO_METRICS | {"PQ"}:
        return _panoptic(section, dataset, result, wanted)
    else:
        raise UnsupportedConfig(
            f"the metric {metric!r} of a {kind} is not supported{at(place_of(evaluation, 'metric'))}\n"
            f"  known: {', '.join(sorted(COCO_METRICS | VOC_METRICS))}"
        )
    section.finish("metric")
    return result


def _panoptic(section: Section, dataset: ConfigDict, result: ConfigDict, wanted: set[str]) -> Any:
    prefix = (dataset.get("data_prefix") or {}).get("seg", "")
    result.update(type="CocoPanopticMetric", ann_file=_path(dataset, "ann_file"))
    result.update(seg_prefix=joined(dataset.get("data_root"), prefix))
    others = sorted(wanted - {"PQ"})
    if not others:
        _copy(section, result, {"classwise": "classwise"})
        section.finish("metric")
        return result
    coco = derived(result, type="CocoMetric", ann_file=_path(dataset, "ins_ann_file"), metric=others)
    _coco_arguments(section, coco)
    section.finish("metric")
    return [result, coco] if "PQ" in wanted else coco


def _path(dataset: ConfigDict, key: str) -> str:
    return joined(dataset.get("data_root"), dataset.get(key))


def _voc_mode(kind: str, dataset: ConfigDict) -> str:
    """VOC 2007 is scored at 11 recall points, everything else by the area; 2.x reads the year in the path."""
    prefix = (dataset.get("data_prefix") or {}).get("sub_data_root", "")
    year = re.search(r"VOC(2007|2012)", joined(dataset.get("data_root"), prefix))
    return "11points" if kind == "VOCDataset" and year and year[1] == "2007" else "area"


def _coco_arguments(section: Section, result: ConfigDict) -> None:
    same = {key: key for key in ("classwise", "proposal_nums", "iou_thrs", "metric_items")}
    _copy(section, result, {**same, "jsonfile_prefix": "outfile_prefix"})


def _copy(section: Section, result: ConfigDict, pairs: dict[str, str]) -> None:
    for old, new in pairs.items():
        if old in section:
            result.put(new, section.take(old), section.place(old))
        section.take(old)


def checkpoints(cfg: ConfigDict, evaluator: Any, by_epoch: bool) -> ConfigDict:
    """checkpoint_config and save_best of `evaluation` as what 3.x writes into default_hooks.checkpoint."""
    result = derived(cfg, "checkpoint_config")
    old = cfg.get("checkpoint_config")
    if isinstance(old, ConfigDict):
        result = ConfigDict(old)
        if "by_epoch" not in result and not by_epoch:
            result.put("by_epoch", False, None)
        for unused in ("create_symlink", "meta", "sync_buffer"):
            result.pop(unused, None)
    evaluation = cfg.get("evaluation")
    if isinstance(evaluation, ConfigDict) and evaluation.get("save_best") is not None:
        best = evaluation["save_best"]
        first = as_list(evaluator)[0] if evaluator else None
        prefix = PREFIXES.get(name_of(first)) if isinstance(first, ConfigDict) else None
        if best != "auto" and "/" not in best and prefix:
            best = f"{prefix}/{best}"
        result.put("save_best", best, evaluation.place("save_best"))
        if evaluation.get("rule") is not None:
            result.put("rule", evaluation["rule"], evaluation.place("rule"))
    return result


def logger(log_config: ConfigDict) -> ConfigDict:
    """log_config as what 3.x writes into default_hooks.logger; loggers to other programs are warned of."""
    section = Section(log_config, "log_config")
    result = derived(log_config)
    if "interval" in section:
        result.put("interval", section.take("interval"), section.place("interval"))
    for hook in dict_list(section.take("hooks"), "log_config.hooks"):
        if name_of(hook) not in TEXT_LOGGERS:
            warn(f"{name_of(hook)} is left out: fastdet logs to the screen and to JSON lines", place_of(hook))
    section.finish("interval")
    return result


def environment(cfg: ConfigDict) -> ConfigDict:
    """dist_params and the process settings as env_cfg."""
    result = derived(cfg, "dist_params")
    if cfg.get("dist_params") is not None:
        result.put("dist_cfg", cfg["dist_params"], cfg.place("dist_params"))
    return result


def randomness(cfg: ConfigDict) -> ConfigDict:
    """seed, deterministic and diff_seed as randomness."""
    result = derived(cfg, "seed")
    for old, new in (("seed", "seed"), ("deterministic", "deterministic"), ("diff_seed", "diff_rank_seed")):
        if cfg.get(old) is not None:
            result.put(new, cfg[old], cfg.place(old))
    return result


def custom_hooks(hooks: Any) -> list[ConfigDict]:
    """2.x hooks that have another name in 3.x, renamed; the others as they are."""
    result = []
    for hook in dict_list(hooks, "custom_hooks"):
        kind = name_of(hook)
        result.append(_average(ConfigDict(hook), kind) if kind in AVERAGES else hook)
    return result


# 2.x hooks for averaged weights: the form of the average, and whether buffers are averaged by default.
AVERAGES = {"ExpMomentumEMAHook": ("ExpMomentumEMA", True), "LinearMomentumEMAHook": ("LinearMomentumEMA", True)}


def _average(hook: ConfigDict, kind: str) -> ConfigDict:
    section = Section(hook, kind)
    form, with_buffers = AVERAGES[kind]
    result = derived(hook, type="EMAHook", ema_type=form)
    for old, new in (("momentum", "momentum"), ("interval", "interval"), ("priority", "priority")):
        if old in section:
            result.put(new, section.take(old), section.place(old))
    length = section.take("total_iter", section.take("warm_up"))
    if length is not None:
        result.put("gamma", length, section.place())
    result["update_buffers"] = with_buffers and not section.flag("skip_buffers", False)
    section.skip("type")
    section.only("resume_from", None)
    section.finish("momentum", "interval")
    return result
