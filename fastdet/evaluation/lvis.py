"""LVISMetric: average precision by LVIS's protocol, with MMDetection's names."""

import logging
from collections.abc import Callable, Sequence

from fastdet.evaluation.coco import CocoMetric, Kind, check_masks
from fastdet.evaluation.coco_truth import CocoTruth
from fastdet.evaluation.lvis_eval import FREQUENCIES, ITEMS, evaluate_lvis, lvis_stats
from fastdet.evaluation.result_files import box_rows, mask_rows
from fastdet.evaluation.tables import text_table
from fastdet.registry import METRICS
from fastdet.structures import ImageRecord
from fastdet.structures.packed import PackedResult
from fastdet.utils.errors import DataError, suggestion

_log = logging.getLogger("fastdet.evaluation")


@METRICS.register()
class LVISMetric(CocoMetric):
    """LVIS's numbers for boxes and masks, such as `lvis/bbox_AP` and `lvis/segm_APr`.

    Values keep full precision (MMDetection rounds to three digits); -1 means that there was nothing to evaluate.

    Args:
        ann_file: an LVIS file; it alone says which classes were looked for in an image.
        metric: one or several of "bbox", "segm", "proposal_fast".
        metric_items: which numbers are returned ("AP", "AP50", ..., "APr", ..., "AR@300", ...); None: all that begin
            with AP.
        proposal_nums: caps of "proposal_fast".
        others: see CocoMetric.

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
        prefix: str | None = "lvis",
        category_ids: Sequence[int] | None = None,
        records: Callable[[], Sequence[ImageRecord]] | None = None,
    ) -> None:
        if ann_file is None:
            raise ValueError("LVISMetric needs ann_file: it alone says which classes were looked for in an image")
        kinds = (metric,) if isinstance(metric, str) else tuple(metric)
        if "proposal" in kinds:
            raise ValueError("LVISMetric: metric 'proposal' is not supported; use 'proposal_fast'")
        for item in metric_items or ():
            if item not in ITEMS:
                raise ValueError(f"LVISMetric: metric_items has {item!r}; {suggestion(item, ITEMS)}")
        super().__init__(
            ann_file, metric, classes=classes, classwise=classwise, proposal_nums=proposal_nums, iou_thrs=iou_thrs,
            format_only=format_only, outfile_prefix=outfile_prefix, prefix="lvis" if prefix is None else prefix,
            backend="pycocotools", category_ids=category_ids, records=records,
        )  # fmt: skip
        self._names = tuple(metric_items or (item for item in ITEMS if item.startswith("AP")))

    def _evaluate(self, kind: Kind, results: list[PackedResult], truth: CocoTruth) -> dict[str, float]:
        if kind == "segm":
            check_masks(results, truth)
            rows = [
                {name: value for name, value in row.items() if name != "bbox"}
                for row in mask_rows(results, truth.category_ids)
            ]
        else:
            rows = box_rows(results, truth.category_ids)
        arrays = evaluate_lvis(truth, rows, "segm" if kind == "segm" else "bbox", iou_thresholds=self._iou_thresholds)
        self._curves[kind] = arrays
        stats = lvis_stats(arrays, _frequencies(truth))
        _log.info("%s\n%s", kind, text_table(("number", "value"), [(n, f"{v:.3f}") for n, v in stats.items()]))
        values = self._class_values(kind) if self._classwise else {}
        return values | {f"{kind}_{name}": stats[name] for name in self._names}


def _frequencies(truth: CocoTruth) -> list[str]:
    """Each class's group.

    Raises:
        DataError: a category of the file has none.
    """
    by_id = {category["id"]: category.get("frequency") for category in truth.data["categories"]}
    found = [by_id.get(category) for category in truth.category_ids]
    if any(group not in FREQUENCIES for group in found):
        raise DataError("LVISMetric: categories of ann_file lack 'frequency' (r, c or f): not an LVIS file")
    return [str(group) for group in found]
