"""3.x evaluators as metric Specs: defaults left out, metric names as a tuple."""

from typing import Any

from fastdet.config.configdict import ConfigDict
from fastdet.registry import Spec

from .dialect import Section, as_list, dict_list, name_of, place_of, spec, warn, without
from .v2_data import joined

METRICS: dict[str, dict[str, Any]] = {
    "CocoMetric": {
        "ann_file": None, "metric": ("bbox",), "classwise": False, "proposal_nums": (100, 300, 1000), "iou_thrs": None,
        "metric_items": None, "format_only": False, "outfile_prefix": None, "prefix": "coco",
    },
    "LVISMetric": {
        "ann_file": None, "metric": ("bbox",), "classwise": False, "proposal_nums": (100, 300, 1000), "iou_thrs": None,
        "metric_items": None, "format_only": False, "outfile_prefix": None, "prefix": "lvis",
    },
    "OpenImagesMetric": {
        "iou_thrs": 0.5, "ioa_thrs": 0.5, "scale_ranges": None, "use_group_of": True, "get_supercategory": True,
        "filter_labels": True, "prefix": "openimages",
    },
    "VOCMetric": {
        "metric": "mAP", "eval_mode": "11points", "iou_thrs": 0.5, "scale_ranges": None,
        "proposal_nums": (100, 300, 1000), "prefix": "pascal_voc",
    },
}  # fmt: skip
# They change speed or where results are gathered, never a number.
SPEED = ("collect_device", "use_mp_eval", "collect_dir", "nproc")
WRITTEN_ALWAYS = ("metric", "eval_mode")


def metrics(evaluator: Any, name: str) -> tuple[Spec, ...]:
    """The metrics of val_evaluator or test_evaluator, in order."""
    if isinstance(evaluator, ConfigDict) and name_of(evaluator, "Evaluator") == "Evaluator" and "metrics" in evaluator:
        evaluator = evaluator["metrics"]
    return tuple(_metric(node) for node in dict_list(evaluator, name))


def _metric(node: ConfigDict) -> Spec:
    kind = name_of(node)
    section = Section(node, kind)
    section.local_files()
    section.skip(*SPEED)
    if kind == "CocoMetric":
        section.skip("sort_categories")  # categories are found by their ids
    if kind not in METRICS:
        values = {k: v for k, v in section.left().items() if k != "type"}
        for key in ("ann_file", "seg_prefix"):
            if isinstance(values.get(key), str):
                values[key] = joined(None, values[key])
        if "metrics" in values:
            values["metrics"] = [_group(part) for part in values["metrics"]]
        return spec(kind, values, node)
    section.skip("type")
    values = {key: section.take(key, default) for key, default in METRICS[kind].items()}
    _drop_remains(section, kind)
    section.finish()
    if values["prefix"] is None:
        values["prefix"] = METRICS[kind]["prefix"]
    if isinstance(values.get("ann_file"), str):
        values["ann_file"] = joined(None, values["ann_file"])
    if kind in ("CocoMetric", "LVISMetric"):
        values["metric"] = tuple(as_list(values["metric"]))
    elif isinstance(values.get("metric"), list | tuple) and len(values["metric"]) == 1:
        values["metric"] = values["metric"][0]
    always = {key: values[key] for key in WRITTEN_ALWAYS if key in values}
    return spec(kind, {**without(values, METRICS[kind]), **always}, node)


def _group(part: Any) -> Any:
    """One entry of a MultiDatasetsEvaluator: a metric, or several for one dataset."""
    if isinstance(part, list | tuple):
        return tuple(_metric(node) for node in part)
    return _metric(part)


def _drop_remains(section: Section, kind: str) -> None:
    """Leaves out arguments of another metric that a base file wrote, when the child only changed `type`."""
    mine = place_of(section.node, "type")
    for key in section.left():
        theirs = place_of(section.node, key)
        of_another = any(key in arguments for name, arguments in METRICS.items() if name != kind)
        if of_another and mine is not None and theirs is not None and mine.file != theirs.file:
            section.take(key)
            warn(f"{key!r} is left over from another metric of the base config: {kind} does not take it", theirs)
