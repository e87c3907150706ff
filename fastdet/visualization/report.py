"""The report: one page with the numbers, curves and pictures of a training or test, and its data as JSON beside it."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastdet.structures import ImageRecord
from fastdet.structures.packed import PackedResult
from fastdet.structures.precision import PrecisionRecall
from fastdet.utils.files import write_text
from fastdet.visualization import page
from fastdet.visualization.analysis import (
    ClassFigures,
    ScoreCurve,
    choose_pictures,
    class_figures,
    confusion_matrix,
    mean_precision,
    score_curve,
)
from fastdet.visualization.curves import NUM_COLORS, Marker, Series, heat_map, line_chart
from fastdet.visualization.matching import ImageMatch, Mistakes, match_images, mistakes
from fastdet.visualization.training_log import Curve, TrainingCurves, read_training_log
from fastdet.visualization.wall import make_picture

MAX_PICTURES = 48
_MAX_CLASS_PLOTS = 24
_MAX_CONFUSION_CLASSES = 40


class _Report:
    """Sections as they are made, and the data behind them."""

    def __init__(self) -> None:
        self.sections: list[str] = []
        self.data: dict[str, Any] = {"plots": {}}

    def chart(self, key: str, series: Sequence[Series], *, x_label: str, y_label: str, **options: Any) -> str:
        """The chart's HTML; its points go to the data."""
        self.data["plots"][key] = {
            "x_label": x_label,
            "y_label": y_label,
            "series": [{"name": s.name, "x": _plain(s.x), "y": _plain(s.y)} for s in series],
        }
        return line_chart(series, x_label=x_label, y_label=y_label, **options)


def write_report(
    path: str | Path,
    *,
    title: str,
    metrics: Mapping[str, float],
    classes: Sequence[str] = (),
    records: Sequence[ImageRecord] = (),
    results: Sequence[PackedResult] = (),
    curves: Mapping[str, PrecisionRecall] | None = None,
    log_file: str | Path | None = None,
    environment: Mapping[str, object] | None = None,
    config: str = "",
    baseline: Mapping[str, float] | None = None,
    score_threshold: float | None = None,
    max_pictures: int = MAX_PICTURES,
) -> Path:
    """Writes a self-contained HTML page, and the data of its plots as JSON beside it (`report.html`, `report.json`).

    Sections without data are left out. The same input gives the same bytes.

    Args:
        path: the page; its folder is made if needed.
        metrics: numbers by name, as metrics return them.
        classes: names in label order.
        records: the images with their objects.
        results: the detections, of all scores; a metric's `results`. Masks are drawn if there are any.
        curves: a metric's `curves`, by kind.
        log_file: the training's JSON lines.
        environment: versions, devices, command: anything worth knowing later.
        config: the resolved config.
        baseline: numbers of another run; the change against them is shown.
        score_threshold: the score from which detections count in confusions and pictures; None takes the one with the
            best F1.
        max_pictures: at most so many pictures, half of them the worst.

    Raises:
        DataError: a training log that cannot be read.
        ValueError: a label without a class name.
    """
    path = Path(path)
    report = _Report()
    labels = [record.labels for record in records] + [result.labels for result in results]
    largest = max((int(part.max()) for part in labels if len(part)), default=-1)
    if largest >= len(classes):
        raise ValueError(f"classes has {len(classes)} names, and a label is {largest}: give all names in label order")
    report.data.update(title=title, metrics=_plain_values(metrics))
    matches = match_images(records, results)
    curves = curves or {}
    for row in _headline(metrics):
        report.sections.append(page.cards(row, baseline or {}, _main_numbers(metrics)))
    if baseline:
        report.data["baseline"] = _plain_values(baseline)
    report.sections.append(_background(environment or {}, config))
    if log_file is not None:
        report.sections.append(_training_section(report, read_training_log(log_file)))
    overall: ScoreCurve | None = None
    if matches:
        overall = score_curve(matches)
        score_threshold = overall.best_threshold if score_threshold is None else score_threshold
        report.data["score_threshold"] = score_threshold
        figures = class_figures(matches, classes, curves, score_threshold=score_threshold)
        report.sections.append(_class_section(report, figures, score_threshold))
    report.sections.append(_precision_section(report, curves, overall, classes))
    if matches and score_threshold is not None:
        wrong = [mistakes(match, score_threshold) for match in matches]
        report.sections.append(_confusion_section(report, matches, wrong, classes, score_threshold))
        report.sections.append(_wall_section(report, matches, wrong, classes, score_threshold, max_pictures))
    write_text(path, page.page(title, _subtitle(matches, classes), report.sections))
    write_text(path.with_suffix(".json"), json.dumps(report.data, indent=1) + "\n")
    return path


def _headline(metrics: Mapping[str, float]) -> list[dict[str, float]]:
    """The numbers without those of single classes, which have a table: boxes and masks in rows of their own."""
    rows: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        if not name.endswith("_precision"):
            rows.setdefault(name.split("_mAP")[0], {})[name] = value
    return list(rows.values()) if all(len(row) > 2 for row in rows.values()) else [_joined(rows.values())]


def _joined(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    return {name: value for row in rows for name, value in row.items()}


def _main_numbers(metrics: Mapping[str, float]) -> list[str]:
    return [name for name in metrics if name.split("/")[-1] in ("mAP", "bbox_mAP", "segm_mAP")]


def _subtitle(matches: Sequence[ImageMatch], classes: Sequence[str]) -> str:
    if not matches:
        return f"{len(classes)} classes" if classes else ""
    objects = sum(int((~match.record.ignore).sum()) for match in matches)
    return f"{len(matches)} images, {objects} objects, {len(classes)} classes"


def _background(environment: Mapping[str, object], config: str) -> str:
    parts = []
    if environment:
        parts.append(page.fold("Environment", page.facts(environment)))
    if config:
        parts.append(page.fold("Config", f"<pre>{page.escape(config)}</pre>"))
    return "".join(parts)


def _training_section(report: _Report, log: TrainingCurves) -> str:
    """Loss with its parts and the validation's, the metrics, the learning rate, and what else was logged."""
    train = dict(log.train)
    losses = [name for name in train if "loss" in name]
    losses.sort(key=lambda name: name != "loss")
    items = []
    if losses:
        series = [_series(name, train.pop(name)) for name in losses[: NUM_COLORS - 1]]
        if "val_loss" in log.val:
            series.append(_series("val_loss", log.val["val_loss"], has_dots=True))
        chart = report.chart("loss", series, x_label="iteration", y_label="loss", y_range=_from_zero(series))
        items.append(("Loss", chart))
    scores = {name: curve for name, curve in log.val.items() if "AP" in name or "AR" in name}
    shown = {n: c for n, c in scores.items() if max(c.y) >= 0}
    series = [
        _series(name, Curve(c.x, [v if v >= 0 else math.nan for v in c.y]), has_dots=True)
        for name, c in list(shown.items())[:NUM_COLORS]
    ]
    if series:
        chart = report.chart("validation", series, x_label="iteration", y_label="value", y_range=_from_zero(series))
        items.append(("Validation", chart))
    for name, key, label in (("lr", "learning_rate", "Learning rate"), ("acc", "accuracy", "Classification accuracy")):
        if name in train:
            chart = report.chart(key, [_series(name, train.pop(name))], x_label="iteration", y_label=label.lower())
            items.append((label, chart))
    if "grad_norm" in train:
        series = [_series("grad_norm", train.pop("grad_norm"))]
        chart = report.chart("grad_norm", series, x_label="iteration", y_label="gradient norm", is_log=True)
        items.append(("Gradient norm", chart))
    return page.section("Training", page.panels(items)) if items else ""


def _series(name: str, curve: Curve, *, has_dots: bool = False) -> Series:
    return Series(name, curve.x, curve.y, is_main=name == "loss" or name.endswith("_mAP"), has_dots=has_dots)


def _from_zero(series: Sequence[Series]) -> tuple[float, float]:
    """The y axis from 0 to a little above the largest value."""
    largest = max((y for one in series for y in one.y if math.isfinite(y)), default=1.0)
    return 0.0, largest * 1.05 or 1.0


def _class_section(report: _Report, figures: Sequence[ClassFigures], score_threshold: float) -> str:
    kinds = list(figures[0].ap) if figures else []
    header = ["class", "objects", "images", f"detections ≥ {score_threshold:.2f}"]
    for kind in kinds:
        header += [f"{kind} AP", f"{kind} AP50", f"{kind} AP75"]
    header += ["best F1", "at score"]
    ordered = sorted(figures, key=lambda row: (_last_if_nan(row, kinds), row.name))
    rows: list[tuple[str | float | int, ...]] = []
    for row in ordered:
        best = (row.best_f1, row.best_threshold) if row.objects else (math.nan, math.nan)
        values = (value for kind in kinds for value in row.ap[kind])
        rows.append((row.name, row.objects, row.images, row.detections, *values, *best))
    report.data["classes"] = [
        {
            "name": row.name,
            "objects": row.objects,
            "images": row.images,
            "detections": row.detections,
            "ap": {kind: _plain(row.ap[kind]) for kind in kinds},
            "best_f1": row.best_f1,
            "best_threshold": row.best_threshold,
        }
        for row in figures
    ]
    bars = range(4, 4 + 3 * len(kinds) + 1)
    note = "Lowest AP first; a click on a column's head sorts. The best F1 is the best over all score thresholds."
    return page.section("Classes", page.table(header, rows, bars=bars), note=note)


def _last_if_nan(row: ClassFigures, kinds: Sequence[str]) -> float:
    value = row.ap[kinds[0]][0] if kinds else row.best_f1
    return value if math.isfinite(value) else math.inf


def _precision_section(
    report: _Report, curves: Mapping[str, PrecisionRecall], overall: ScoreCurve | None, classes: Sequence[str]
) -> str:
    items = []
    for kind, arrays in curves.items():
        series = _precision_series(arrays)
        if series:
            axes: dict[str, Any] = {"x_range": (0.0, 1.0), "y_range": (0.0, 1.02)}
            chart = report.chart(f"precision_recall_{kind}", series, x_label="recall", y_label="precision", **axes)
            items.append((f"Precision and recall, {kind}", chart))
    if overall is not None:
        scores = overall.scores.tolist()
        chart = report.chart(
            "score",
            [
                Series("F1", scores, overall.f1.tolist(), is_main=True),
                Series("precision", scores, overall.precision.tolist()),
                Series("recall", scores, overall.recall.tolist()),
            ],
            x_label="score threshold",
            y_label="value",
            x_range=(0.0, 1.0),
            y_range=(0.0, 1.02),
            marker=Marker(
                overall.best_threshold, overall.best_f1, f"F1 {overall.best_f1:.3f} at {overall.best_threshold:.3f}"
            ),
        )
        items.append(("F1 against the score", chart))
    if not items:
        return ""
    body = page.panels(items)
    for kind, arrays in curves.items():
        body += _class_plots(report, kind, arrays, classes)
    note = "Precision is the mean of the classes. F1 is that of all detections from a score on, whatever their class."
    return page.section("Precision, recall and the score", body, note=note)


def _precision_series(arrays: PrecisionRecall) -> list[Series]:
    """Mean precision at IoU 0.5, 0.75, and over all thresholds if there are several."""
    recalls = arrays.recall_thresholds.tolist()
    wanted: list[tuple[str, float | None]] = [("IoU 0.50", 0.5), ("IoU 0.75", 0.75)]
    if len(arrays.iou_thresholds) > 1:
        wanted.append((f"mean of {arrays.iou_thresholds[0]:.2f} to {arrays.iou_thresholds[-1]:.2f}", None))
    series = []
    for name, threshold in wanted:
        values = mean_precision(arrays, threshold)
        if values is not None:
            series.append(Series(name, recalls, values.tolist()))
    return series


def _class_plots(report: _Report, kind: str, arrays: PrecisionRecall, classes: Sequence[str]) -> str:
    """Small plots of the classes with objects, the lowest AP first."""
    ap = arrays.average_precision()
    order = [int(label) for label in np.argsort(ap, kind="stable") if math.isfinite(ap[label])]
    items = []
    for label in order[:_MAX_CLASS_PLOTS]:
        chart = report.chart(
            f"precision_recall_{kind}_{classes[label]}",
            _precision_series(arrays.classes(np.array([label]))),
            x_label="recall",
            y_label="precision",
            x_range=(0.0, 1.0),
            y_range=(0.0, 1.02),
        )
        items.append((f"{classes[label]} · AP {ap[label]:.3f}", chart))
    count = "" if len(order) <= _MAX_CLASS_PLOTS else f", the {_MAX_CLASS_PLOTS} with the lowest AP"
    return page.fold(f"Each class, {kind}{count}", page.panels(items, small=True)) if len(items) > 1 else ""


def _confusion_section(
    report: _Report,
    matches: Sequence[ImageMatch],
    wrong: Sequence[Mistakes],
    classes: Sequence[str],
    score_threshold: float,
) -> str:
    counts = confusion_matrix(matches, wrong, len(classes))
    names = [*classes, "background"]
    report.data["confusion"] = {"names": names, "rows_are": "objects", "counts": counts.tolist()}
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    note = (
        f"Rows are objects, columns what was detected, from score {score_threshold:.2f} and IoU 0.5, in percent of the "
        "row. The background's column are missed objects, its row false detections."
    )
    chosen = np.arange(len(names))
    if len(classes) > _MAX_CONFUSION_CLASSES:
        mixed = counts[:-1, :-1] - np.diag(np.diag(counts[:-1, :-1]))
        score = mixed.sum(axis=0) + mixed.sum(axis=1)
        worst = np.sort(np.argsort(-score, kind="stable")[:_MAX_CONFUSION_CLASSES])
        chosen = np.append(worst, len(classes))
        note += f" Of {len(classes)} classes, the {_MAX_CONFUSION_CLASSES} that are most often confused."
    grid = np.ix_(chosen, chosen)
    chart = heat_map(
        shares[grid], counts[grid], [names[i] for i in chosen], row_label="object", column_label="detected as"
    )
    return page.section("Confusions", f'<div class="panel">{chart}</div>', note=note)


def _wall_section(
    report: _Report,
    matches: Sequence[ImageMatch],
    wrong: Sequence[Mistakes],
    classes: Sequence[str],
    score_threshold: float,
    max_pictures: int,
) -> str:
    titles = {"worst": "Worst", "best": "Best", "random": "At random"}
    parts = []
    report.data["pictures"] = []
    for kind, indices in choose_pictures(matches, wrong, max_pictures).items():
        shown = [make_picture(matches[i], wrong[i], classes) for i in indices]
        if shown:
            parts.append(f"<h3>{titles[kind]}</h3>{page.pictures(shown)}")
        report.data["pictures"] += [
            {"image_id": matches[i].record.image_id, "kind": kind, "f1": picture.f1, "caption": picture.caption}
            for i, picture in zip(indices, shown, strict=True)
        ]
    if not parts:
        return ""
    key = (
        '<p class="note key"><i class="truth"></i>ground truth <i class="detected"></i>detections from score '
        f"{score_threshold:.2f}; objects that were missed or confused carry their name</p>"
    )
    return page.section("Pictures", key + "".join(parts))


def _plain(values: Sequence[float]) -> list[float | None]:
    """Numbers for JSON, which has no NaN."""
    return [round(float(v), 9) if math.isfinite(v) else None for v in values]


def _plain_values(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: float(value) if math.isfinite(value) else None for name, value in values.items()}
