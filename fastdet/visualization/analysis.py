"""The figures of a report beyond the metric's own: F1 against the score, confusions, per-class numbers, picture choice.

Letters: C classes, S score steps.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fastdet.structures.precision import PrecisionRecall
from fastdet.visualization.matching import ImageMatch, Mistakes

SCORE_STEPS = np.linspace(0.0, 1.0, 101)


class ScoreCurve(NamedTuple):
    """F1, precision and recall of all detections from a score on, at score steps [S]; and the best F1's threshold."""

    scores: np.ndarray
    f1: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    best_threshold: float
    best_f1: float


class ClassFigures(NamedTuple):
    """One class's row of the table. `ap` holds the mean AP, AP50 and AP75 of each kind; NaN without objects."""

    name: str
    objects: int
    images: int
    detections: int  # from the report's score on
    ap: Mapping[str, tuple[float, float, float]]
    best_threshold: float
    best_f1: float


def score_curve(matches: Sequence[ImageMatch], label: int | None = None) -> ScoreCurve:
    """F1 against the score threshold, of one class or over all detections together."""
    scores, right, objects = [np.zeros(0, np.float32)], [np.zeros(0, bool)], 0
    for match in matches:
        chosen = ~match.ignored if label is None else ~match.ignored & (match.labels == label)
        scores.append(match.scores[chosen])
        right.append(match.found[chosen] >= 0)
        wanted = match.record.labels[~match.record.ignore]
        objects += len(wanted) if label is None else int((wanted == label).sum())
    all_scores, all_right = np.concatenate(scores), np.concatenate(right)
    order = np.argsort(-all_scores, kind="stable")
    all_scores, true = all_scores[order], np.cumsum(all_right[order])
    number = np.arange(1, len(true) + 1)
    f1 = 2 * true / np.maximum(number + objects, 1)
    # A threshold takes all detections of equal score or none: only the last of them is a choice.
    last = np.append(np.diff(all_scores) != 0, True)[: len(all_scores)]
    f1_choices = np.where(last, f1, -1.0)
    best = int(f1_choices.argmax()) if len(f1) else -1
    taken = np.searchsorted(-all_scores, -SCORE_STEPS.astype(np.float32), side="right")
    true_at = np.append(0, true)[taken]
    return ScoreCurve(
        scores=SCORE_STEPS,
        f1=2 * true_at / np.maximum(taken + objects, 1),
        precision=np.where(taken > 0, true_at / np.maximum(taken, 1), 1.0),
        recall=true_at / max(objects, 1),
        best_threshold=float(all_scores[best]) if best >= 0 and f1[best] > 0 else 0.5,
        best_f1=float(f1[best]) if best >= 0 else 0.0,
    )


def class_figures(
    matches: Sequence[ImageMatch],
    classes: Sequence[str],
    curves: Mapping[str, PrecisionRecall],
    *,
    score_threshold: float,
) -> list[ClassFigures]:
    """The rows of the per-class table, in label order."""
    columns = {kind: _ap_columns(arrays) for kind, arrays in curves.items()}
    rows = []
    for label, name in enumerate(classes):
        per_image = [int(((m.record.labels == label) & ~m.record.ignore).sum()) for m in matches]
        curve = score_curve(matches, label)
        rows.append(
            ClassFigures(
                name=name,
                objects=sum(per_image),
                images=sum(count > 0 for count in per_image),
                detections=sum(int(((m.labels == label) & (m.scores >= score_threshold)).sum()) for m in matches),
                ap={kind: (float(a[label]), float(b[label]), float(c[label])) for kind, (a, b, c) in columns.items()},
                best_threshold=curve.best_threshold,
                best_f1=curve.best_f1,
            )
        )
    return rows


def _ap_columns(arrays: PrecisionRecall) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """AP of each class [C]: mean over the IoU thresholds, at 0.5, at 0.75; NaN where a threshold was not evaluated."""
    mean = arrays.average_precision()
    single = [
        arrays.average_precision(iou_threshold=t)
        if np.isclose(arrays.iou_thresholds, t).any()
        else np.full(len(mean), np.nan)
        for t in (0.5, 0.75)
    ]
    return mean, single[0], single[1]


def mean_precision(arrays: PrecisionRecall, iou_threshold: float | None = None) -> np.ndarray | None:
    """Precision at each recall threshold, averaged over the classes with objects, and over IoU if none is given.

    None if the IoU threshold was not evaluated or no class has objects.
    """
    precision = arrays.precision[:, :, :, 0, -1]  # [T, R, K]
    if iou_threshold is not None:
        precision = precision[np.isclose(arrays.iou_thresholds, iou_threshold)]
    with_objects = precision[:, :, (precision > -1).all(axis=(0, 1))]
    return with_objects.mean(axis=(0, 2)) if with_objects.size else None


def confusion_matrix(matches: Sequence[ImageMatch], all_mistakes: Sequence[Mistakes], num_classes: int) -> np.ndarray:
    """Counts [C + 1, C + 1] int64: rows are objects, columns detections, the last ones the background."""
    matrix = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
    for match, wrong in zip(matches, all_mistakes, strict=True):
        truth, found = match.record.labels, match.result.labels
        for detection, target in (*wrong.right, *wrong.confused):
            matrix[truth[target], found[detection]] += 1
        for detection in wrong.false:
            matrix[num_classes, found[detection]] += 1
        for target in wrong.missed:
            matrix[truth[target], num_classes] += 1
    return matrix


def choose_pictures(
    matches: Sequence[ImageMatch], all_mistakes: Sequence[Mistakes], count: int, *, seed: int = 0
) -> dict[str, list[int]]:
    """Indices of the images to show: half of them the worst, a quarter the best with objects, a quarter at random.

    Worst is the lowest F1, then the most mistakes. An image appears once.
    """
    order = sorted(range(len(matches)), key=lambda i: (all_mistakes[i].f1, -all_mistakes[i].number, i))
    worst = [i for i in order if all_mistakes[i].number][: count // 2]
    taken = set(worst)
    good = sorted(order, key=lambda i: (-all_mistakes[i].f1, -len(all_mistakes[i].right), i))
    best = [i for i in good if i not in taken and all_mistakes[i].right][: count // 4]
    taken.update(best)
    rest = [i for i in range(len(matches)) if i not in taken]
    chosen = np.random.default_rng(seed).permutation(len(rest))[: count // 4]
    return {"worst": worst, "best": best, "random": sorted(rest[i] for i in chosen)}
