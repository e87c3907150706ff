"""From a detector's fixed-shape output to one result per image, in file pixels.

The one place on the inference path where the host waits for the device.
"""

from collections.abc import Sequence

import torch

from fastdet import ops
from fastdet.structures import Detections, ImageMeta, Instances


def to_instances(detections: Detections, metas: Sequence[ImageMeta], mask_threshold: float = 0.5) -> list[Instances]:
    """Detections of each image on the CPU, trimmed to their count, in pixels of the file.

    Boxes are divided by the image's scale and not clipped again. Masks are pasted into an image of the file's size.

    Args:
        detections: of B images.
        metas: of the same B images.
        mask_threshold: least probability of a pixel that belongs to the instance, in [0, 1].

    Raises:
        ValueError: the number of metas is not that of the detections.
    """
    if len(metas) != len(detections.boxes):
        raise ValueError(f"metas must be given for each of the {len(detections.boxes)} images, not for {len(metas)}")
    boxes, scores, labels, counts = (part.cpu() for part in detections[:4])
    masks = None if detections.masks is None else detections.masks.cpu()
    results = []
    for index, (meta, count) in enumerate(zip(metas, counts.tolist(), strict=True)):
        file_boxes = boxes[index, :count].float() / torch.tensor(meta.scale * 2)
        pasted = None
        if masks is not None:
            pasted = ops.paste_masks(masks[index, :count], file_boxes, meta.file_size, mask_threshold)
        results.append(Instances(file_boxes, scores[index, :count].float(), labels[index, :count], pasted))
    return results
