"""Draws boxes, masks and labels on pictures. Colours are BGR, as OpenCV draws them."""

import colorsys
import unicodedata
from collections.abc import Sequence

import cv2
import numpy as np

from fastdet.structures import Instances

Color = tuple[int, int, int]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GOLDEN = 0.618033988749895  # steps of this hue keep neighbours in the palette far apart


def class_colors(count: int) -> list[Color]:
    """One colour for each class: bright, far apart for neighbouring labels, the same in every run."""
    colors = []
    for index in range(count):
        hue = (0.58 + index * _GOLDEN) % 1.0
        saturation, value = ((0.75, 1.0), (0.55, 0.95), (0.9, 0.85))[index % 3]
        r, g, b = colorsys.hsv_to_rgb(hue, saturation, value)
        colors.append((round(b * 255), round(g * 255), round(r * 255)))
    return colors


def draw_instances(
    image: np.ndarray, instances: Instances, classes: Sequence[str], *, score_threshold: float = 0.0
) -> np.ndarray:
    """A copy of the picture with its detections, the best ones on top.

    Args:
        image: [H, W, 3] uint8, BGR.
        instances: detections in the picture's pixels.
        classes: names in label order; labels beyond them are shown as numbers.
        score_threshold: detections below it are left out.
    """
    canvas = image.copy()
    shown = instances.cpu()
    boxes, scores, labels = shown.bboxes.numpy(), shown.scores.numpy(), shown.labels.numpy()
    order = [int(i) for i in np.argsort(scores, kind="stable") if scores[i] >= score_threshold]
    colors = class_colors(max([len(classes), *(int(labels[i]) + 1 for i in order)]))
    if shown.masks is not None:
        for index in order:
            draw_mask(canvas, shown.masks[index].numpy(), colors[labels[index]])
    for index in order:
        draw_box(canvas, boxes[index], colors[labels[index]])
    for index in order:
        label = int(labels[index])
        name = classes[label] if label < len(classes) else str(label)
        draw_label(canvas, boxes[index], f"{name} {scores[index]:.2f}", colors[label])
    return canvas


def draw_mask(canvas: np.ndarray, mask: np.ndarray, color: Color, *, opacity: float = 0.4) -> None:
    """Tints the pixels of a mask [H, W] bool and outlines it, in place."""
    inside = mask.astype(bool)
    if not inside.any():
        return
    canvas[inside] = (canvas[inside] * (1 - opacity) + np.array(color) * opacity).astype(np.uint8)
    draw_outline(canvas, inside, color)


def draw_outline(canvas: np.ndarray, mask: np.ndarray, color: Color) -> None:
    """Draws the contours of a mask [H, W] bool, in place."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(canvas, contours, -1, color, max(1, line_width(canvas) // 2), cv2.LINE_AA)


def draw_box(canvas: np.ndarray, box: np.ndarray, color: Color) -> None:
    """Draws a box (xyxy) in place, its lines inside the picture."""
    height, width = canvas.shape[:2]
    x1, y1, x2, y2 = _inside(box, width, height)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), color, line_width(canvas))


def draw_label(canvas: np.ndarray, box: np.ndarray, text: str, color: Color, *, below: bool = False) -> None:
    """Writes text on a plate at the top left corner of a box (or the bottom left one), moved into the picture."""
    height, width = canvas.shape[:2]
    text = _drawable(text)
    scale = font_scale(canvas)
    stroke = 2 if scale >= 0.8 else 1
    (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, scale, stroke)
    pad = max(1, round(3 * scale))
    plate_height = text_height + baseline + 2 * pad
    x1, y1, _, y2 = _inside(box, width, height)
    left = max(0, min(x1, width - text_width - 2 * pad))
    top = y2 + 1 if below else y1 - plate_height
    if top < 0:
        top = y1
    top = max(0, min(top, height - plate_height))
    plate = (left + text_width + 2 * pad, top + plate_height)
    cv2.rectangle(canvas, (left, top), plate, color, cv2.FILLED)
    baseline_y = top + pad + text_height
    cv2.putText(canvas, text, (left + pad, baseline_y), _FONT, scale, _ink(color), stroke, cv2.LINE_AA)


def line_width(canvas: np.ndarray) -> int:
    """The width of box lines in pixels: 1 below a longer side of 480, 2 from there, 6 at 2000."""
    return max(1, round(max(canvas.shape[:2]) / 320))


def font_scale(canvas: np.ndarray) -> float:
    """OpenCV's font scale for the picture's size: letters about a fiftieth of its longer side, and legible."""
    return float(np.clip(max(canvas.shape[:2]) / 1300, 0.38, 2.5))


def _inside(box: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    finite = np.nan_to_num(np.asarray(box, dtype=float), nan=0.0, posinf=1e6, neginf=-1e6)
    x1, x2 = (round(float(v)) for v in np.clip(finite[[0, 2]], 0, width - 1))
    y1, y2 = (round(float(v)) for v in np.clip(finite[[1, 3]], 0, height - 1))
    return x1, y1, x2, y2


def _ink(color: Color) -> Color:
    """Black on bright plates, white on dark ones."""
    blue, green, red = color
    return (0, 0, 0) if 0.114 * blue + 0.587 * green + 0.299 * red > 130 else (255, 255, 255)


def _drawable(text: str) -> str:
    """The text in the letters that OpenCV's fonts have: accents are dropped, other scripts become question marks."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return plain.encode("ascii", "replace").decode()
