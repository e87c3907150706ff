"""Detections made from ground truth, for the metric tests."""

import numpy as np
import torch
from pycocotools import mask as rle_codec

from fastdet.structures import ImageMeta, Instances


def classes_of(data: dict) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and category ids in label order."""
    return tuple(c["name"] for c in data["categories"]), tuple(c["id"] for c in data["categories"])


def meta_of(image: dict) -> ImageMeta:
    size = (image["height"], image["width"])
    return ImageMeta(image["id"], image.get("file_name", ""), size, size, (1.0, 1.0))


def perturbed(
    data: dict,
    *,
    seed: int,
    copies: int = 3,
    round_scores: bool = False,
    with_masks: bool = False,
    images: int | None = None,
) -> tuple[list[Instances], list[ImageMeta]]:
    """Detections from shifted ground truth: `copies` of each object on average, a tenth of another class.

    Rounded scores give many ties.
    """
    rng = np.random.default_rng(seed)
    label_of = {category["id"]: label for label, category in enumerate(data["categories"])}
    results, metas = [], []
    for image in data["images"][:images]:
        boxes, labels, masks = [], [], []
        for annotation in (a for a in data["annotations"] if a["image_id"] == image["id"]):
            x, y, w, h = annotation["bbox"]
            for _ in range(rng.integers(0, 2 * copies)):
                dx, dy, dw, dh = rng.normal(0, 0.12, 4)
                boxes.append([x + dx * w, y + dy * h, x + dx * w + w * np.exp(dw), y + dy * h + h * np.exp(dh)])
                other = rng.integers(len(label_of))
                labels.append(other if rng.random() < 0.1 else label_of[annotation["category_id"]])
                if with_masks:
                    masks.append(np.roll(bitmap(annotation, image), int(rng.integers(-9, 9)), axis=1))
        scores = rng.random(len(boxes)).astype(np.float32)
        if round_scores:
            scores = scores.round(1)
        shape = (0, image["height"], image["width"])
        results.append(
            Instances(
                torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                torch.from_numpy(scores),
                torch.tensor(labels, dtype=torch.int64),
                (torch.from_numpy(np.stack(masks)) if masks else torch.zeros(shape, dtype=torch.bool))
                if with_masks
                else None,
            )
        )
        metas.append(meta_of(image))
    return results, metas


def bitmap(annotation: dict, image: dict) -> np.ndarray:
    """The mask [H, W] bool of a polygon or RLE annotation."""
    segmentation = annotation["segmentation"]
    if isinstance(segmentation, list):
        rle = rle_codec.merge(rle_codec.frPyObjects(segmentation, image["height"], image["width"]))
    elif isinstance(segmentation["counts"], list):
        rle = rle_codec.frPyObjects(segmentation, image["height"], image["width"])
    else:
        rle = segmentation
    return rle_codec.decode(rle).astype(bool)
