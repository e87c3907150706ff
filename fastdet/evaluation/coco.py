"""CocoMetric: official COCO box, mask and proposal evaluation, with MMDetection's names."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from fastdet.evaluation.coco_eval import (
    DEFAULT_IOU_THRESHOLDS,
    Backend,
    IouType,
    choose_backend,
    coco_stats,
    evaluate_detections,
    stat_names,
    stats_table,
)
from fastdet.evaluation.coco_truth import CocoTruth, read_truth, truth_from_records
from fastdet.evaluation.metric import CollectingMetric
from fastdet.evaluation.recall import proposal_recalls
from fastdet.evaluation.result_files import box_rows, mask_rows, proposal_rows, write_json
from fastdet.evaluation.tables import text_table
from fastdet.registry import METRICS
from fastdet.structures import ImageRecord
from fastdet.structures.packed import PackedResult
from fastdet.utils.errors import DataError, suggestion

Kind = Literal["bbox", "segm", "proposal", "proposal_fast"]
KINDS: tuple[Kind, ...] = ("bbox", "segm", "proposal", "proposal_fast")
_AP_DETECTIONS = 100  # the cap of COCO's primary AP

_log = logging.getLogger("fastdet.evaluation")


@METRICS.register()
class CocoMetric(CollectingMetric):
    """COCO's numbers for boxes, masks and proposals.

    Values keep full precision (MMDetection rounds to three digits); -1 means that there was nothing to evaluate.
    The ground truth is a COCO file, or the dataset's records where there is none.

    Args:
        ann_file: a COCO instances file; None uses `records`.
        metric: one or several of "bbox", "segm", "proposal", "proposal_fast".
        classwise: also the AP of each class, as `<class>_precision` and as a table in the log.
        proposal_nums: caps on detections per image. At least three for all but "proposal_fast".
        iou_thrs: IoU thresholds, one or several; None is 0.50, 0.55, ..., 0.95.
        metric_items: which numbers are returned ("mAP", "mAP_50", ..., "AR@100", ...); None is MMDetection's choice.
        format_only: only write the result files.
        outfile_prefix: write `<prefix>.bbox.json`, `.segm.json` or `.proposal.json`.
        prefix: put before the names, with a slash.
        backend: the evaluator: "auto" is hotcoco where installed (same numbers, faster), otherwise pycocotools.
        classes: names in label order.
        category_ids: the category id of each label; None looks the names up in `ann_file`.
        records: gives the dataset's records, in case of no `ann_file`.

    Raises:
        ValueError: a setting outside the above.
    """

    def __init__(
        self,
        ann_file: str | None = None,
        metric: str | Sequence[str] = "bbox",
        *,
        classes: Sequence[str],
        classwise: bool = False,
        proposal_nums: Sequence[int] = (100, 300, 1000),
        iou_thrs: float | Sequence[float] | None = None,
        metric_items: Sequence[str] | None = None,
        format_only: bool = False,
        outfile_prefix: str | None = None,
        prefix: str | None = "coco",
        backend: Backend = "auto",
        category_ids: Sequence[int] | None = None,
        records: Callable[[], Sequence[ImageRecord]] | None = None,
    ) -> None:
        self._kinds = _check_kinds((metric,) if isinstance(metric, str) else tuple(metric))
        self._caps = _check_caps(proposal_nums, self._kinds)
        self._items = _check_items(metric_items, self._caps, self._kinds)
        if format_only and outfile_prefix is None:
            raise ValueError("CocoMetric: format_only=True needs outfile_prefix, such as 'work_dirs/test/results'")
        if ann_file is None and records is None:
            raise ValueError("CocoMetric needs ann_file, or the records of a dataset")
        self._ann_file = ann_file
        self._classes = tuple(classes)
        self._category_ids = None if category_ids is None else tuple(category_ids)
        self._records = records
        self._classwise = classwise
        self._iou_thresholds = (
            DEFAULT_IOU_THRESHOLDS if iou_thrs is None else np.atleast_1d(np.asarray(iou_thrs, float))
        )
        self._format_only = format_only
        self._outfile_prefix = outfile_prefix
        self._prefix = "coco" if prefix is None else prefix
        self._backend: Backend = choose_backend(backend)
        super().__init__(with_masks="segm" in self._kinds or outfile_prefix is not None)
        self._truth: CocoTruth | None = None

    def compute(self) -> dict[str, float]:
        """Writes the result files if asked to, evaluates, logs the tables and returns the numbers.

        Raises:
            DataError: results of images that are not in the ground truth; mask AP without masks.
        """
        truth = self._ground_truth()
        results = self._in_order(truth)
        if self._outfile_prefix is not None:
            self._write_files(results, truth)
        if self._format_only:
            return {}
        self._curves = {}
        values: dict[str, float] = {}
        for kind in self._kinds:
            if kind == "proposal_fast":
                values.update(self._fast_recall(results, truth))
            else:
                values.update(self._evaluate(kind, results, truth))
        return {f"{self._prefix}/{name}" if self._prefix else name: value for name, value in values.items()}

    def _ground_truth(self) -> CocoTruth:
        if self._truth is None:
            if self._ann_file is not None:
                self._truth = read_truth(self._ann_file, self._classes, self._category_ids)
            else:
                assert self._records is not None
                self._truth = truth_from_records(self._records(), self._classes, self._category_ids)
            if any(annotation["id"] == 0 for annotation in self._truth.data["annotations"]):
                _log.warning(
                    "%s has an annotation with id 0: COCO's evaluators never count it as found; number from 1",
                    self._ann_file,
                )
        return self._truth

    def _in_order(self, truth: CocoTruth) -> list[PackedResult]:
        """The results in the order of the ground truth's images, whatever the order in which they came."""
        known = set(truth.image_ids)
        strange = [r.image_id for r in self._store if r.image_id not in known]
        if strange:
            where = self._ann_file or "the dataset's records"
            raise DataError(
                f"CocoMetric: {len(strange)} images with results are not in {where}, for example image_id "
                f"{strange[0]!r}; ann_file and the dataset must belong together"
            )
        absent = len(truth.image_ids) - len(self._store)
        if absent:
            _log.warning("%d of %d images have no results and count as empty", absent, len(truth.image_ids))
        found = (self._store.get(image_id) for image_id in truth.image_ids)
        return [result for result in found if result is not None]

    def _write_files(self, results: list[PackedResult], truth: CocoTruth) -> None:
        if {"proposal", "proposal_fast"} & set(self._kinds):
            write_json(f"{self._outfile_prefix}.proposal.json", proposal_rows(results))
        if {"bbox", "segm"} & set(self._kinds):
            write_json(f"{self._outfile_prefix}.bbox.json", box_rows(results, truth.category_ids))
        if any(result.masks is not None for result in results):
            write_json(f"{self._outfile_prefix}.segm.json", mask_rows(results, truth.category_ids))
        _log.info("result files: %s.*.json", Path(str(self._outfile_prefix)).resolve())

    def _evaluate(self, kind: Kind, results: list[PackedResult], truth: CocoTruth) -> dict[str, float]:
        if kind == "segm":
            check_masks(results, truth)
            # Without the box, so that the evaluators take the mask's area for small, medium and large.
            rows = [
                {name: value for name, value in row.items() if name != "bbox"}
                for row in mask_rows(results, truth.category_ids)
            ]
        else:
            rows = box_rows(results, truth.category_ids)
        arrays = evaluate_detections(
            truth,
            rows,
            cast(IouType, "bbox" if kind == "proposal" else kind),
            iou_thresholds=self._iou_thresholds,
            max_detections=self._caps,
            use_categories=kind != "proposal",
            backend=self._backend,
        )
        # pycocotools gives -1 for the first number unless 100 is among the caps; the largest cap is what is meant then.
        ap_detections = _AP_DETECTIONS if _AP_DETECTIONS in self._caps else max(self._caps)
        stats = coco_stats(arrays, ap_detections=ap_detections)
        _log.info("%s\n%s", kind, stats_table(stats, arrays, ap_detections=ap_detections))
        by_name = dict(zip(stat_names(self._caps), stats.tolist(), strict=True))
        if kind == "proposal":
            return {name: by_name[name] for name in self._items or stat_names(self._caps)[6:]}
        values: dict[str, float] = {}
        rank = {category: row for row, category in enumerate(sorted(truth.category_ids))}
        self._curves[kind] = arrays.classes(np.array([rank[c] for c in truth.category_ids], dtype=int))
        if self._classwise:
            values.update(self._class_values(kind))
        values.update({f"{kind}_{name}": by_name[name] for name in self._items or stat_names(self._caps)[:6]})
        _log.info("%s_mAP_copypaste: %s", kind, " ".join(f"{value:.3f}" for value in stats[:6]))
        return values

    def _class_values(self, kind: Kind) -> dict[str, float]:
        """AP by class name, of classes with ground truth; logs the table. Two kinds also give `<kind>_<class>`."""
        arrays = self._curves[kind]
        columns = [arrays.average_precision()]
        for threshold in (0.5, 0.75):
            evaluated = np.isclose(arrays.iou_thresholds, threshold).any()
            nothing = np.full(len(self._classes), np.nan)
            columns.append(arrays.average_precision(iou_threshold=threshold) if evaluated else nothing)
        columns += [arrays.average_precision(area=area) for area in ("small", "medium", "large")]
        header = ("category", *stat_names(self._caps)[:6])
        rows = [
            (name, *(f"{column[label]:.3f}" if np.isfinite(column[label]) else "-" for column in columns))
            for label, name in enumerate(self._classes)
        ]
        _log.info("%s of each class\n%s", kind, text_table(header, rows))
        values: dict[str, float] = {}
        for name, value in zip(self._classes, columns[0].tolist(), strict=True):
            if np.isfinite(value):
                values[f"{name}_precision"] = value
                if len({"bbox", "segm"} & set(self._kinds)) == 2:
                    values[f"{kind}_{name}_precision"] = value
        return values

    def _fast_recall(self, results: list[PackedResult], truth: CocoTruth) -> dict[str, float]:
        """Average recall of the best proposals, by greedy matching of boxes."""
        boxes: dict[int | str, list[list[float]]] = {image_id: [] for image_id in truth.image_ids}
        wanted = set(truth.category_ids)
        for annotation in truth.data["annotations"]:
            if not (annotation.get("ignore", False) or annotation["iscrowd"]) and annotation["category_id"] in wanted:
                x, y, w, h = annotation["bbox"]
                boxes[annotation["image_id"]].append([x, y, x + w, y + h])
        truths = [np.array(boxes[image_id], dtype=np.float32).reshape(-1, 4) for image_id in truth.image_ids]
        found = {r.image_id: r.boxes[np.argsort(-r.scores, kind="stable")] for r in results}
        nothing = np.zeros((0, 4), dtype=np.float32)
        recalls = proposal_recalls(
            truths,
            [found.get(image_id, nothing) for image_id in truth.image_ids],
            proposal_nums=self._caps,
            iou_thresholds=self._iou_thresholds.tolist(),
        )
        values = {f"AR@{number}": float(value) for number, value in zip(self._caps, recalls.mean(axis=1), strict=True)}
        _log.info("proposal_fast %s", "  ".join(f"{name} {value:.4f}" for name, value in values.items()))
        return values


def _check_kinds(kinds: tuple[str, ...]) -> tuple[Kind, ...]:
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"CocoMetric: metric {kind!r} is unknown; {suggestion(kind, KINDS)}")
    if not kinds:
        raise ValueError(f"CocoMetric: metric is empty; choose from {', '.join(KINDS)}")
    if {"proposal", "proposal_fast"} <= set(kinds):
        raise ValueError("CocoMetric: 'proposal' and 'proposal_fast' both return AR@N; ask for one of them")
    return cast(tuple[Kind, ...], kinds)


def _check_caps(proposal_nums: Sequence[int], kinds: Sequence[Kind]) -> tuple[int, ...]:
    caps = tuple(sorted(int(number) for number in proposal_nums))
    if len(set(caps)) != len(caps) or not caps or caps[0] < 1:
        raise ValueError(f"CocoMetric: proposal_nums must be different numbers of at least 1, not {proposal_nums!r}")
    if len(caps) < 3 and set(kinds) != {"proposal_fast"}:
        raise ValueError(
            f"CocoMetric: proposal_nums needs three numbers, such as (100, 300, 1000), not {proposal_nums!r}"
        )
    return caps


def _check_items(items: Sequence[str] | None, caps: Sequence[int], kinds: Sequence[Kind]) -> tuple[str, ...] | None:
    if items is None or set(kinds) == {"proposal_fast"}:
        return None
    known = stat_names(caps)
    for item in items:
        if item not in known:
            raise ValueError(f"CocoMetric: metric_items has {item!r}; {suggestion(item, known)}")
    return tuple(items)


def check_masks(results: Sequence[PackedResult], truth: CocoTruth) -> None:
    if any(result.masks is None and len(result) for result in results):
        raise DataError("CocoMetric: metric 'segm' needs masks, and the detector gives none; use metric='bbox'")
    annotations: Sequence[Mapping[str, Any]] = truth.data["annotations"]
    bare = [annotation["id"] for annotation in annotations if "segmentation" not in annotation]
    if bare:
        raise DataError(
            f"CocoMetric: metric 'segm' needs masks in the ground truth; {len(bare)} of {len(annotations)} annotations "
            f"have none, for example id {bare[0]}; use metric='bbox', or LoadAnnotations(with_mask=True)"
        )
