"""The generated set: rectangles, circles and triangles on textured noise, with boxes and polygon masks in COCO's form.

It needs no download and no licence, and gives the same files for the same arguments. A tiny detector learns it in
minutes, so it is what the quick start and the tests train on.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .masks import mask_boxes, polygons_to_bitmap

SHAPE_CLASSES: tuple[str, ...] = ("rectangle", "circle", "triangle")
MAX_OBJECTS = 4
CIRCLE_CORNERS = 32
MIN_CONTRAST = 60.0
"""Least distance of a shape's colour from the background's mean in some channel, of 255: plain to see in the noise."""
MAX_TRIES = 40
"""Places tried for an object before an image is left with fewer."""


@dataclass(frozen=True, kw_only=True)
class ShapesConfig:
    """What is generated. Sides of objects are drawn in [min_side, max_side] pixels."""

    num_train: int = 200
    num_val: int = 50
    image_size: int = 128
    min_side: int = 20
    max_side: int = 70
    seed: int = 0

    def __post_init__(self) -> None:
        if not 4 <= self.min_side <= self.max_side < self.image_size:
            raise ValueError(
                f"sides must satisfy 4 <= min_side <= max_side < image_size, not {self.min_side}, {self.max_side}, "
                f"{self.image_size}"
            )


def write_shapes(folder: str | Path, config: ShapesConfig | None = None) -> dict[str, Path]:
    """Writes the set: `train/*.png`, `val/*.png`, `annotations/instances_{train,val}.json`.

    Returns:
        The annotation file of each split.
    """
    config = config or ShapesConfig()
    root = Path(folder)
    files = {}
    for number, (split, count) in enumerate((("train", config.num_train), ("val", config.num_val))):
        (root / split).mkdir(parents=True, exist_ok=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for i in range(count):
            # Each image has its own stream: a larger set starts with the images of a smaller one.
            rng = np.random.default_rng((config.seed, number, i))
            pixels, objects = draw_image(rng, config)
            name = f"{split}_{i:05d}.png"
            cv2.imwrite(str(root / split / name), pixels)
            side = config.image_size
            images.append({"id": i + 1, "file_name": name, "width": side, "height": side})
            for item in objects:
                annotations.append({"id": len(annotations) + 1, "image_id": i + 1, **item})
        categories = [{"id": label + 1, "name": name} for label, name in enumerate(SHAPE_CLASSES)]
        path = root / "annotations" / f"instances_{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
        files[split] = path
    return files


def draw_image(rng: np.random.Generator, config: ShapesConfig) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """One picture [H, W, 3] uint8 BGR and its objects as COCO annotations without ids.

    Masks do not overlap; boxes may touch a little.
    """
    side = config.image_size
    background = rng.uniform(60, 195, size=3)
    pixels = _texture(rng, side, background)
    taken = np.zeros((side, side), bool)
    objects = []
    for _ in range(int(rng.integers(1, MAX_OBJECTS, endpoint=True))):
        for _ in range(MAX_TRIES):
            label = int(rng.integers(len(SHAPE_CLASSES)))
            polygon = _outline(rng, SHAPE_CLASSES[label], config)
            bitmap = polygons_to_bitmap([polygon.reshape(-1)], (side, side))
            # A margin of two pixels keeps the outlines of neighbours apart.
            if not (taken & (cv2.dilate(bitmap, np.ones((5, 5), np.uint8)) > 0)).any():
                break
        else:
            continue
        inside = bitmap > 0
        taken |= inside
        pixels[inside] = _colour(rng, background) + rng.normal(0, 6, size=(int(inside.sum()), 3))
        objects.append(_annotation(label, polygon, bitmap))
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8), objects


def _annotation(label: int, polygon: np.ndarray, bitmap: np.ndarray) -> dict[str, Any]:
    x1, y1, x2, y2 = (float(v) for v in mask_boxes([[polygon.reshape(-1)]])[0])
    return {
        "category_id": label + 1,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": int(bitmap.sum()),
        "iscrowd": 0,
        "segmentation": [polygon.reshape(-1).tolist()],
    }


def _outline(rng: np.random.Generator, name: str, config: ShapesConfig) -> np.ndarray:
    """Corners [n, 2] of a shape inside the image, in quarters of a pixel (exact in float32 and short in JSON)."""
    width, height = rng.integers(config.min_side, config.max_side, size=2, endpoint=True)
    if name == "circle":
        height = width
    x0 = rng.integers(0, config.image_size - width, endpoint=True)
    y0 = rng.integers(0, config.image_size - height, endpoint=True)
    if name == "rectangle":
        unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)
    elif name == "circle":
        angle = np.arange(CIRCLE_CORNERS) * (2 * np.pi / CIRCLE_CORNERS)
        unit = np.stack([0.5 + 0.5 * np.cos(angle), 0.5 + 0.5 * np.sin(angle)], axis=1)
    else:
        unit = np.array([[rng.uniform(0.2, 0.8), 0], [1, 1], [0, 1]])
        if rng.random() < 0.5:
            unit[:, 1] = 1 - unit[:, 1]
    corners = unit * (width, height) + (x0, y0)
    return np.rint(corners * 4) / 4


def _colour(rng: np.random.Generator, background: np.ndarray) -> np.ndarray:
    """A colour that stands out from the background in at least one channel by MIN_CONTRAST."""
    while True:
        colour = rng.uniform(0, 255, size=3)
        if np.abs(colour - background).max() >= MIN_CONTRAST:
            return colour


def _texture(rng: np.random.Generator, side: int, mean: np.ndarray) -> np.ndarray:
    """Blotches of about 16 pixels plus fine noise around a mean colour, float64 [side, side, 3]."""
    cells = side // 16 + 2
    coarse = rng.normal(0, 14, size=(cells, cells, 3))
    place = np.arange(side) / 16
    low = place.astype(int)
    part = (place - low)[:, None]
    rows = coarse[low] * (1 - part[..., None]) + coarse[low + 1] * part[..., None]  # [side, cells, 3]
    smooth = rows[:, low] * (1 - part) + rows[:, low + 1] * part  # [side, side, 3]
    return mean + smooth + rng.normal(0, 8, size=(side, side, 3))
