"""The official COCO evaluation: precision-recall arrays from an evaluator, and the 12 numbers made from them.

Two evaluators give the same arrays, bit for bit: pycocotools, always there, and hotcoco, in Rust and many times faster.
"""

import contextlib
import importlib.util
import io
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fastdet.evaluation.coco_truth import CocoTruth
from fastdet.structures.precision import PrecisionRecall

IouType = Literal["bbox", "segm"]
Backend = Literal["auto", "pycocotools", "hotcoco"]

DEFAULT_IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)


def choose_backend(backend: Backend) -> Literal["pycocotools", "hotcoco"]:
    """The evaluator to use: "auto" takes hotcoco where it is installed.

    Raises:
        ValueError: hotcoco is asked for and not installed, or an unknown name.
    """
    installed = importlib.util.find_spec("hotcoco") is not None
    if backend == "auto":
        return "hotcoco" if installed else "pycocotools"
    if backend == "hotcoco" and not installed:
        raise ValueError("backend='hotcoco' needs the package: pip install 'fastdet[hotcoco]'")
    if backend not in ("pycocotools", "hotcoco"):
        raise ValueError(f"backend must be 'auto', 'pycocotools' or 'hotcoco', not {backend!r}")
    return backend


def evaluate_detections(
    truth: CocoTruth,
    detections: Sequence[dict[str, Any]],
    iou_type: IouType,
    *,
    iou_thresholds: np.ndarray = DEFAULT_IOU_THRESHOLDS,
    max_detections: Sequence[int] = (100, 300, 1000),
    use_categories: bool = True,
    backend: Backend = "auto",
) -> PrecisionRecall:
    """Matches detections to the ground truth and accumulates precision and recall.

    Args:
        truth: the ground truth; all of its images are evaluated.
        detections: rows of a COCO result file: `image_id`, `category_id`, `score`, and `bbox` (x, y, w, h) for "bbox"
            or `segmentation` (RLE) for "segm". Mask rows must not have a `bbox`: COCO would then take the box's
            area for small, medium and large.
        iou_type: what overlaps are measured on.
        use_categories: False evaluates proposals, where the class does not matter.

    Returns:
        Arrays with the classes in ascending category id (one class without categories), caps ascending.
    """
    fast = choose_backend(backend) == "hotcoco"
    # pycocotools never counts an annotation with id 0 as found. Its number is the official one, hotcoco mends it.
    if any(annotation["id"] == 0 for annotation in truth.data["annotations"]):
        fast = False
    evaluate = _with_hotcoco if fast else _with_pycocotools
    return evaluate(truth, detections, iou_type, np.asarray(iou_thresholds), sorted(max_detections), use_categories)


def _with_pycocotools(
    truth: CocoTruth,
    detections: Sequence[dict[str, Any]],
    iou_type: IouType,
    iou_thresholds: np.ndarray,
    max_detections: list[int],
    use_categories: bool,
) -> PrecisionRecall:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        ground_truth = COCO()
        # Copies of the rows: the evaluator writes into them, polygons become RLE.
        ground_truth.dataset = {**truth.data, "annotations": [dict(a) for a in truth.data["annotations"]]}
        ground_truth.createIndex()
        found = [dict(d) for d in detections]
        if found:
            detected = ground_truth.loadRes(found)
        else:
            detected = COCO()
            detected.dataset = {**truth.data, "annotations": []}
            detected.createIndex()
        evaluator = COCOeval(ground_truth, detected, iou_type)
        evaluator.params.catIds = list(truth.category_ids)
        evaluator.params.imgIds = list(truth.image_ids)
        evaluator.params.iouThrs = iou_thresholds
        evaluator.params.maxDets = max_detections
        evaluator.params.useCats = int(use_categories)
        evaluator.evaluate()
        evaluator.accumulate()
    return _arrays(evaluator)


def _with_hotcoco(
    truth: CocoTruth,
    detections: Sequence[dict[str, Any]],
    iou_type: IouType,
    iou_thresholds: np.ndarray,
    max_detections: list[int],
    use_categories: bool,
) -> PrecisionRecall:
    import hotcoco

    image_number = {image_id: image_id for image_id in truth.image_ids}
    data = {key: truth.data[key] for key in ("images", "annotations", "categories")}
    if not all(isinstance(image_id, int) for image_id in truth.image_ids):
        # It takes whole numbers alone. Numbers in the names' order keep the order in which equal scores are counted.
        image_number = {image_id: n for n, image_id in enumerate(sorted(truth.image_ids, key=str), start=1)}
        data["images"] = [{**row, "id": image_number[row["id"]]} for row in data["images"]]
        data["annotations"] = [{**row, "image_id": image_number[row["image_id"]]} for row in data["annotations"]]
        detections = [{**row, "image_id": image_number[row["image_id"]]} for row in detections]
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of caps other than 1, 10, 100
        ground_truth = hotcoco.COCO(data)
        evaluator = hotcoco.COCOeval(ground_truth, ground_truth.load_res(list(detections)), iou_type)
        evaluator.params.catIds = sorted(truth.category_ids)
        evaluator.params.imgIds = sorted(image_number.values())
        evaluator.params.iouThrs = iou_thresholds.tolist()
        evaluator.params.maxDets = max_detections
        evaluator.params.useCats = bool(use_categories)
        evaluator.evaluate()
        evaluator.accumulate()
    return _arrays(evaluator)


def _arrays(evaluator: Any) -> PrecisionRecall:
    params = evaluator.params
    return PrecisionRecall(
        iou_thresholds=np.asarray(params.iouThrs, dtype=float),
        recall_thresholds=np.asarray(params.recThrs, dtype=float),
        area_names=tuple(params.areaRngLbl),
        max_detections=tuple(int(m) for m in params.maxDets),
        precision=np.asarray(evaluator.eval["precision"]),
        recall=np.asarray(evaluator.eval["recall"]),
        scores=np.asarray(evaluator.eval["scores"]),
    )


def coco_stats(arrays: PrecisionRecall, *, ap_detections: int = 100) -> np.ndarray:
    """COCO's 12 numbers, float64: six average precisions, then six average recalls.

    AP (at `ap_detections` a image), AP50, AP75, AP small, medium, large (at the third cap); AR at the first, second
    and third cap, AR small, medium, large at the third. -1 where nothing was evaluated: no ground truth, or a
    threshold or cap that is not among the evaluated ones. Equal to `COCOeval.summarize` bit for bit, given its
    order of classes (ascending category ids).

    Args:
        arrays: of `evaluate_detections`, with at least three caps.
        ap_detections: the cap of the first number; pycocotools knows 100 alone.

    Source: Lin et al., "Microsoft COCO", https://cocodataset.org/#detection-eval
    """
    first, second, third = arrays.max_detections[:3]
    stats = [_mean_precision(arrays, ap_detections)]
    stats += [_mean_precision(arrays, third, iou_threshold=t) for t in (0.5, 0.75)]
    stats += [_mean_precision(arrays, third, area=area) for area in ("small", "medium", "large")]
    stats += [_mean_recall(arrays, cap) for cap in (first, second, third)]
    stats += [_mean_recall(arrays, third, area=area) for area in ("small", "medium", "large")]
    return np.array(stats)


def _mean_precision(
    arrays: PrecisionRecall, max_detections: int, *, iou_threshold: float | None = None, area: str = "all"
) -> float:
    values = arrays.precision
    if iou_threshold is not None:
        values = values[arrays.iou_thresholds == iou_threshold]
    values = values[:, :, :, arrays.area_names.index(area)]  # [t, R, K, M]
    return _mean_of_valid(values[..., np.array(arrays.max_detections) == max_detections])


def _mean_recall(arrays: PrecisionRecall, max_detections: int, *, area: str = "all") -> float:
    values = arrays.recall[:, :, arrays.area_names.index(area)]  # [T, K, M]
    return _mean_of_valid(values[..., np.array(arrays.max_detections) == max_detections])


def _mean_of_valid(values: np.ndarray) -> float:
    """The mean of what is above -1, in memory order; -1 if that is nothing."""
    valid = values[values > -1]
    return float(valid.mean()) if valid.size else -1.0


def stat_names(max_detections: Sequence[int]) -> tuple[str, ...]:
    """MMDetection's names of the 12 numbers; those of the recalls carry the caps."""
    first, second, third = sorted(max_detections)[:3]
    precisions = ("mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l")
    recalls = (f"AR@{first}", f"AR@{second}", f"AR@{third}")
    return precisions + recalls + tuple(f"AR_{size}@{third}" for size in "sml")


def stats_table(stats: np.ndarray, arrays: PrecisionRecall, *, ap_detections: int = 100) -> str:
    """The 12 lines that COCO's users know from pycocotools."""
    first, second, third = arrays.max_detections[:3]
    whole = f"{arrays.iou_thresholds[0]:.2f}:{arrays.iou_thresholds[-1]:.2f}"
    rows = [("Precision", "AP", whole, "all", ap_detections)]
    rows += [("Precision", "AP", iou, "all", third) for iou in ("0.50", "0.75")]
    rows += [("Precision", "AP", whole, area, third) for area in ("small", "medium", "large")]
    rows += [("Recall", "AR", whole, "all", cap) for cap in (first, second, third)]
    rows += [("Recall", "AR", whole, area, third) for area in ("small", "medium", "large")]
    return "\n".join(
        f" {'Average ' + what:<18} ({short}) @[ IoU={iou:<9} | area={area:>6s} | maxDets={cap:>4d} ] = {value:0.3f}"
        for (what, short, iou, area, cap), value in zip(rows, stats, strict=True)
    )
