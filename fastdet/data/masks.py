"""Geometry of instance masks: bitmaps [M, H, W] uint8 (0 or 1), or M lists of polygons in image pixels.

Letters: M objects, H and W pixels, N pixels of all windows. Polygons are float arrays [2 * n] of x, y, x, y, ...
Source: COCO's mask API (pycocotools) for the rasterising, which MMDetection uses as well.
"""

from typing import Any, NamedTuple

import cv2
import numpy as np
from pycocotools import mask as coco_mask

Polygons = list[np.ndarray]
Masks = np.ndarray | list[Polygons]
MIN_POLYGON_LENGTH = 6
"""Numbers of the smallest polygon, a triangle."""

FLIP_CODES = {"horizontal": 1, "vertical": 0, "diagonal": -1}
"""OpenCV's names of the mirror axes."""


class Windows(NamedTuple):
    """Box-cropped bitmaps in one buffer, row-major, mask g at `offsets[g]`."""

    bits: np.ndarray  # [N] uint8
    offsets: np.ndarray  # [M] int64
    windows: np.ndarray  # [M, 4] int32: x0, y0, width, height; all 0 for an empty mask


def polygons_to_bitmap(polygons: Polygons, size: tuple[int, int]) -> np.ndarray:
    """The union of polygons as a bitmap [H, W]; parts outside the image are cut off."""
    if not polygons:
        return np.zeros(size, np.uint8)
    rles = coco_mask.frPyObjects(list(polygons), *size)
    return coco_mask.decode(coco_mask.merge(rles))


def rle_to_bitmap(rle: dict[str, Any]) -> np.ndarray:
    """A COCO RLE, compressed (bytes or str) or not (list of counts), as a bitmap [H, W]."""
    return coco_mask.decode(compress_rle(rle))


def bitmap_to_rle(bitmap: np.ndarray) -> dict[str, Any]:
    """A bitmap [H, W] as a compressed COCO RLE whose counts are text, as JSON needs it."""
    rle = coco_mask.encode(np.asfortranarray(bitmap))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()}


def compress_rle(rle: dict[str, Any]) -> dict[str, Any]:
    """The same mask with compressed counts as bytes.

    Raises:
        ValueError: the dict is no RLE.
    """
    counts, size = rle.get("counts"), rle.get("size")
    if isinstance(counts, str):
        counts = counts.encode()
    if size is None or len(size) != 2 or not isinstance(counts, bytes | list | tuple):
        raise ValueError(f"an RLE needs size [height, width] and counts, not {sorted(rle)}")
    if isinstance(counts, bytes):
        return {"size": [int(size[0]), int(size[1])], "counts": counts}
    return coco_mask.frPyObjects({"size": list(size), "counts": list(counts)}, int(size[0]), int(size[1]))


def select_masks(masks: Masks, keep: np.ndarray) -> Masks:
    """The masks where the bool array [M] is True."""
    if keep.all():
        return masks
    if isinstance(masks, np.ndarray):
        return masks[keep]
    return [polygons for polygons, kept in zip(masks, keep, strict=True) if kept]


def resize_masks(masks: Masks, size: tuple[int, int], new_size: tuple[int, int]) -> Masks:
    """Masks of an image that is resized: bitmaps by nearest neighbour, polygons by scaling."""
    if isinstance(masks, np.ndarray):
        new_h, new_w = new_size
        out = np.empty((len(masks), new_h, new_w), np.uint8)
        for i, mask in enumerate(masks):
            out[i] = cv2.resize(mask, (new_w, new_h), interpolation=cv2.INTER_NEAREST)
        return out
    scale = np.array([new_size[1] / size[1], new_size[0] / size[0]])
    return [[_mapped(p, scale, 0.0) for p in polygons] for polygons in masks]


def flip_masks(masks: Masks, size: tuple[int, int], direction: str) -> Masks:
    """Masks of an image that is flipped; `direction` is horizontal, vertical or diagonal (both)."""
    flip_x, flip_y = direction != "vertical", direction != "horizontal"
    if isinstance(masks, np.ndarray):
        out = np.empty_like(masks)
        for i, mask in enumerate(masks):
            cv2.flip(mask, FLIP_CODES[direction], dst=out[i])
        return out
    scale = np.array([-1.0 if flip_x else 1.0, -1.0 if flip_y else 1.0])
    shift = np.array([size[1] if flip_x else 0.0, size[0] if flip_y else 0.0])
    return [[_mapped(p, scale, shift) for p in polygons] for polygons in masks]


def translate_masks(masks: list[Polygons], dx: float, dy: float) -> list[Polygons]:
    """Polygons moved by (dx, dy) pixels; nothing is cut."""
    return [[_mapped(p, 1.0, np.array([dx, dy])) for p in polygons] for polygons in masks]


def crop_masks(masks: Masks, window: tuple[int, int, int, int]) -> Masks:
    """Masks of the image part (x0, y0, width, height); polygons are clipped at its borders, vanished ones left out."""
    x0, y0, width, height = window
    if isinstance(masks, np.ndarray):
        return np.ascontiguousarray(masks[:, y0 : y0 + height, x0 : x0 + width])
    moved = translate_masks(masks, -x0, -y0)
    clipped = [[clip_polygon(p, (height, width)) for p in polygons] for polygons in moved]
    return [[p for p in polygons if len(p) >= MIN_POLYGON_LENGTH] for polygons in clipped]


def pad_masks(masks: Masks, new_size: tuple[int, int], value: int = 0) -> Masks:
    """Masks of an image that is padded at the right and bottom to at least `new_size`."""
    if not isinstance(masks, np.ndarray):
        return masks
    _, height, width = masks.shape
    out = np.full((len(masks), max(new_size[0], height), max(new_size[1], width)), value, np.uint8)
    out[:, :height, :width] = masks
    return out


def move_masks(masks: Masks, dx: int, dy: int, new_size: tuple[int, int]) -> Masks:
    """Masks moved by (dx, dy) pixels into an image of size (H, W), where bitmaps are cut off and polygons are not."""
    if not isinstance(masks, np.ndarray):
        return translate_masks(masks, dx, dy)
    count, height, width = masks.shape
    out = np.zeros((count, *new_size), np.uint8)
    top, left, bottom, right = max(dy, 0), max(dx, 0), min(dy + height, new_size[0]), min(dx + width, new_size[1])
    if top < bottom and left < right:
        out[:, top:bottom, left:right] = masks[:, top - dy : bottom - dy, left - dx : right - dx]
    return out


def mask_areas(masks: Masks) -> np.ndarray:
    """Pixels of each mask, float64 [M]: set bits, or the polygons' areas added up."""
    if isinstance(masks, np.ndarray):
        return masks.reshape(len(masks), -1).sum(axis=1, dtype=np.float64)
    return np.array([sum(_polygon_area(p) for p in polygons) for polygons in masks], np.float64)


def mask_boxes(masks: Masks) -> np.ndarray:
    """The tight box of each mask, float32 [M, 4] xyxy; zeros for an empty mask."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for i, mask in enumerate(masks):
        if isinstance(mask, np.ndarray):
            x, y, w, h = cv2.boundingRect(mask)
            boxes[i] = (x, y, x + w, y + h)
        elif mask:
            points = np.concatenate(mask).reshape(-1, 2)
            boxes[i] = (*points.min(axis=0), *points.max(axis=0))
    return boxes


def clip_polygon(polygon: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The part of a polygon inside the image, float64 [2 * n]; empty if there is none.

    A concave polygon that falls apart stays one polygon whose parts are joined along the border by edges of no area.
    Source: Sutherland and Hodgman, "Reentrant Polygon Clipping", CACM 1974. MMDetection uses shapely and makes several.
    """
    points = np.asarray(polygon, np.float64).reshape(-1, 2)
    for axis, bound, sign in ((0, 0.0, 1), (0, float(size[1]), -1), (1, 0.0, 1), (1, float(size[0]), -1)):
        if len(points) == 0:
            break
        distance = sign * (points[:, axis] - bound)  # >= 0 inside
        if (distance >= 0).all():
            continue
        kept: list[np.ndarray] = []
        for i in range(len(points)):
            before, here = points[i - 1], points[i]
            d0, d1 = distance[i - 1], distance[i]
            if (d0 >= 0) != (d1 >= 0):
                crossing = before + (here - before) * (d0 / (d0 - d1))
                crossing[axis] = bound
                kept.append(crossing)
            if d1 >= 0:
                kept.append(here)
        points = np.array(kept).reshape(-1, 2)
    return points.reshape(-1)


def window_masks(masks: Masks, size: tuple[int, int]) -> Windows:
    """Each mask cut out to the tight window of its own set pixels, so none is lost.

    Args:
        size: (H, W) of the image; polygons are rasterised inside it, exactly as on the whole image.
    """
    pieces: list[np.ndarray] = []
    windows = np.zeros((len(masks), 4), np.int32)
    for i, mask in enumerate(masks):
        x0, y0 = 0, 0
        if isinstance(mask, np.ndarray):
            bitmap = mask
        else:
            bitmap, x0, y0 = _rasterise_near(mask, size)
        x, y, w, h = cv2.boundingRect(bitmap) if bitmap.size else (0, 0, 0, 0)
        if w and h:
            windows[i] = (x0 + x, y0 + y, w, h)
            pieces.append(np.ascontiguousarray(bitmap[y : y + h, x : x + w]).reshape(-1))
    sizes = windows[:, 2].astype(np.int64) * windows[:, 3]
    offsets = np.cumsum(sizes) - sizes
    bits = np.concatenate(pieces) if pieces else np.zeros(0, np.uint8)
    return Windows(bits, offsets, windows)


def _rasterise_near(polygons: Polygons, size: tuple[int, int]) -> tuple[np.ndarray, int, int]:
    """Polygons as a bitmap of their surroundings alone, with that window's corner (x0, y0)."""
    if not polygons:
        return np.zeros((0, 0), np.uint8), 0, 0
    points = np.concatenate(polygons).reshape(-1, 2)
    (x0, y0), (x1, y1) = np.floor(points.min(axis=0)).astype(int) - 1, np.ceil(points.max(axis=0)).astype(int) + 1
    x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, size[1]), min(y1, size[0])
    if x0 >= x1 or y0 >= y1:
        return np.zeros((0, 0), np.uint8), 0, 0
    moved = translate_masks([polygons], -x0, -y0)[0]
    return polygons_to_bitmap(moved, (int(y1 - y0), int(x1 - x0))), int(x0), int(y0)


def _mapped(polygon: np.ndarray, scale: np.ndarray | float, shift: np.ndarray | float) -> np.ndarray:
    return (np.asarray(polygon, np.float64).reshape(-1, 2) * scale + shift).reshape(-1)


def _polygon_area(polygon: np.ndarray) -> float:
    x, y = polygon[0::2], polygon[1::2]
    return float(0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))
