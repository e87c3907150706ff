"""The picture wall: small pictures with ground truth and detections, and in words what is wrong."""

import base64
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from fastdet.structures import ImageRecord
from fastdet.structures.packed import PackedResult, decode_masks
from fastdet.visualization.draw import draw_box, draw_label, draw_outline
from fastdet.visualization.matching import ImageMatch, Mistakes

LONG_SIDE = 480  # pixels
_JPEG_QUALITY = 80
_MAX_ENLARGEMENT = 3.0  # of pictures smaller than the wall's
_GREEN, _RED = (70, 190, 40), (60, 60, 235)  # BGR


class Picture(NamedTuple):
    """One picture of the wall: `uri` is a JPEG as a data URI, None if the file could not be read."""

    name: str
    caption: str
    f1: float
    uri: str | None
    size: tuple[int, int]  # (H, W) of the small picture


def make_picture(match: ImageMatch, wrong: Mistakes, classes: Sequence[str]) -> Picture:
    """Draws the ground truth in green and the detections in red, and names the mistakes."""
    record, result = match.record, match.result
    name = Path(record.path).name or str(record.image_id)
    caption = describe(wrong, record, result, classes)
    image = cv2.imread(record.path, cv2.IMREAD_COLOR) if record.path else None
    if image is None:
        return Picture(name, caption, wrong.f1, None, (record.height, record.width))
    scale = min(LONG_SIDE / max(image.shape[:2]), _MAX_ENLARGEMENT)
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    canvas = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    _draw(canvas, match, wrong, classes)
    encoded, data = cv2.imencode(".jpg", canvas, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    assert encoded
    uri = "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
    return Picture(name, caption, wrong.f1, uri, canvas.shape[:2])


def describe(wrong: Mistakes, record: ImageRecord, result: PackedResult, classes: Sequence[str]) -> str:
    """The mistakes in words: "missed 2 person; false dog 0.92; cat taken for dog"."""
    missed = Counter(classes[record.labels[target]] for target in wrong.missed)
    parts = [f"missed {count} {name}" if count > 1 else f"missed {name}" for name, count in missed.items()]
    mixed = Counter((classes[record.labels[t]], classes[result.labels[d]]) for d, t in wrong.confused)
    parts += [f"{a} taken for {b}" + (f" ({count})" if count > 1 else "") for (a, b), count in mixed.items()]
    false = sorted(wrong.false, key=lambda d: -result.scores[d])
    parts += [f"false {classes[result.labels[d]]} {result.scores[d]:.2f}" for d in false[:3]]
    if len(false) > 3:
        parts.append(f"{len(false) - 3} more false")
    return "; ".join(parts) if parts else f"all {len(wrong.right)} right" if wrong.right else "nothing to find"


def _draw(canvas: np.ndarray, match: ImageMatch, wrong: Mistakes, classes: Sequence[str]) -> None:
    record, result = match.record, match.result
    height, width = canvas.shape[:2]
    scale = np.array([width / result.file_size[1], height / result.file_size[0]] * 2)
    shown = [d for d, _ in (*wrong.right, *wrong.confused)] + wrong.false
    shown.sort(key=lambda d: result.scores[d])
    if result.masks is not None and shown:
        masks = decode_masks([result.masks[d] for d in shown])
        for mask in masks:
            small = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
            draw_outline(canvas, small, _RED)
    for target in range(len(record.boxes)):
        if not record.ignore[target]:
            draw_box(canvas, record.boxes[target] * scale, _GREEN)
    for detection in shown:
        draw_box(canvas, result.boxes[detection] * scale, _RED)
    for target in (*wrong.missed, *(t for _, t in wrong.confused)):
        draw_label(canvas, record.boxes[target] * scale, classes[record.labels[target]], _GREEN, below=True)
    for detection in shown:
        text = f"{classes[result.labels[detection]]} {result.scores[detection]:.2f}"
        draw_label(canvas, result.boxes[detection] * scale, text, _RED)
