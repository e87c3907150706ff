"""Which detection found which object: the matching behind the report's F1 curves, confusions and picture captions.

Letters: n detections, g objects of one image.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fastdet.structures import ImageRecord
from fastdet.structures.packed import PackedResult

IOU_THRESHOLD = 0.5


class ImageMatch(NamedTuple):
    """One image's detections by score, descending, and the objects that they found.

    Dropping detections below a score leaves the matches of the others as they are.
    """

    record: ImageRecord
    result: PackedResult
    order: np.ndarray  # [n] indices into the result, by score
    found: np.ndarray  # [n] index of the object of the same class that was found, -1 for none; in that order
    ignored: np.ndarray  # [n] bool: found nothing, but lies on a crowd or difficult object; in that order

    @property
    def scores(self) -> np.ndarray:
        """Scores in that order."""
        return self.result.scores[self.order]

    @property
    def labels(self) -> np.ndarray:
        """Labels in that order."""
        return self.result.labels[self.order]


class Mistakes(NamedTuple):
    """What one image's detections of at least a score got right and wrong. Indices as in the result and the record."""

    right: list[tuple[int, int]]  # (detection, object)
    confused: list[tuple[int, int]]  # (detection, object of another class)
    false: list[int]  # detections
    missed: list[int]  # objects

    @property
    def number(self) -> int:
        """How many mistakes there are."""
        return len(self.confused) + len(self.false) + len(self.missed)

    @property
    def f1(self) -> float:
        """F1 of this image; 1 if there was nothing to find and nothing was found."""
        total = 2 * len(self.right) + len(self.false) + len(self.missed) + 2 * len(self.confused)
        return 2 * len(self.right) / total if total else 1.0


def match_images(records: Sequence[ImageRecord], results: Sequence[PackedResult]) -> list[ImageMatch]:
    """Matches every image that has a result, in the order of the records."""
    by_id: Mapping[int | str, PackedResult] = {result.image_id: result for result in results}
    return [match_image(record, by_id[record.image_id]) for record in records if record.image_id in by_id]


def match_image(record: ImageRecord, result: PackedResult) -> ImageMatch:
    """Gives each detection, best first, the free object of its class that it overlaps most, from IoU 0.5."""
    order = np.argsort(-result.scores, kind="stable")
    found = np.full(len(order), -1)
    ignored = np.zeros(len(order), dtype=bool)
    if len(order) and len(record.boxes):
        overlap = overlaps(result.boxes[order], record.boxes, record.ignore)
        overlap = np.where(result.labels[order][:, None] == record.labels, overlap, 0.0)
        ignored = (overlap[:, record.ignore] >= IOU_THRESHOLD).any(axis=1)
        free = np.where(record.ignore, 0.0, overlap)
        for row in np.flatnonzero((free >= IOU_THRESHOLD).any(axis=1)):
            best = int(free[row].argmax())
            if free[row, best] >= IOU_THRESHOLD:
                found[row] = best
                free[:, best] = 0.0
        ignored &= found < 0
    return ImageMatch(record, result, order, found, ignored)


def mistakes(match: ImageMatch, score_threshold: float) -> Mistakes:
    """What the detections of at least the score got right, took for another class, invented and missed."""
    record, result = match.record, match.result
    shown = np.flatnonzero(match.scores >= score_threshold)
    right = [(int(match.order[row]), int(match.found[row])) for row in shown if match.found[row] >= 0]
    left = [int(match.order[row]) for row in shown if match.found[row] < 0 and not match.ignored[row]]
    taken = {truth for _, truth in right}
    missed = [int(t) for t in np.flatnonzero(~record.ignore) if int(t) not in taken]
    confused: list[tuple[int, int]] = []
    if left and missed:
        overlap = overlaps(result.boxes[left], record.boxes[missed], np.zeros(len(missed), dtype=bool))
        for row in range(len(left)):
            best = int(overlap[row].argmax())
            if overlap[row, best] >= IOU_THRESHOLD and result.labels[left[row]] != record.labels[missed[best]]:
                confused.append((left[row], missed[best]))
                overlap[:, best] = 0.0
    wrong, mixed = {d for d, _ in confused}, {t for _, t in confused}
    return Mistakes(right, confused, [d for d in left if d not in wrong], [t for t in missed if t not in mixed])


def overlaps(boxes: np.ndarray, truth: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """IoU [n, g] of boxes [n, 4] and [g, 4]; for crowds [g] the share of the detection that lies in the crowd."""
    first, second = boxes.astype(float)[:, None], truth.astype(float)[None]
    inner = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    shared = np.maximum(inner, 0).prod(axis=-1)
    area1 = np.maximum(first[..., 2:] - first[..., :2], 0).prod(axis=-1)
    area2 = np.maximum(second[..., 2:] - second[..., :2], 0).prod(axis=-1)
    whole = np.where(crowd, area1, area1 + area2 - shared)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
