"""The weights, images and targets that the goldens were computed with: functions of names and sizes alone.

Every value is drawn by NumPy from a seed, so nothing but the results is stored.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fastdet.structures import Batch, ImageMeta, MaskBuffer, Proposals, Targets

Size = tuple[int, int]
SIZES: tuple[Size, ...] = ((256, 320), (224, 288))  # (H, W) of the two images
NUM_OBJECTS = 5
NUM_SEMANTIC = 183  # COCO's things and stuff
SLOTS = 8  # objects of an image, padded


def value_of(key: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """The value of a parameter or batch-norm statistic; None where the initial value stays."""
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return None
    if leaf == "running_var":
        return rng.uniform(0.5, 1.5, shape)
    if leaf == "running_mean":
        return 0.1 * rng.standard_normal(shape)
    if len(shape) >= 2:
        weight = rng.standard_normal(shape) * np.sqrt(1.0 / max(1, int(np.prod(shape[1:]))))
        # second-stage scores are spread, so that they are not all alike
        return weight * 3.0 if re.search(r"fc_cls|fc_reg|conv_logits", key) else weight
    if leaf in ("weight", "gamma"):  # gamma: of attention added to a map
        return rng.uniform(0.5, 1.0, shape)
    if leaf.endswith("bias"):
        return 0.05 * rng.standard_normal(shape)
    return None


def fill(model: nn.Module) -> None:
    """Gives parameters and batch-norm statistics their values, by state-dict name."""
    state = model.state_dict()
    parameters = {name for name, _ in model.named_parameters()}
    for key, tensor in state.items():
        if tensor.is_floating_point() and (key in parameters or key.endswith(("running_mean", "running_var"))):
            value = value_of(key, tuple(tensor.shape))
            if value is not None:
                tensor.copy_(torch.from_numpy(np.asarray(value)).to(tensor.dtype))
    model.load_state_dict(state)


def image(index: int, size: Size | None = None) -> Tensor:
    """An image, uint8 BGR [3, H, W]: coarse blocks plus noise."""
    height, width = size or SIZES[index]
    rng = np.random.default_rng(100 + index)
    coarse = rng.uniform(0, 255, (3, height // 16 + 1, width // 16 + 1))
    pixels = coarse.repeat(16, 1).repeat(16, 2)[:, :height, :width]
    return torch.from_numpy(np.clip(pixels + rng.normal(0, 8, (3, height, width)), 0, 255).astype(np.uint8))


def objects(index: int, num_classes: int, size: Size | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Boxes [5, 4] float32 and labels [5] of an image; an object's mask fills its box in whole pixels."""
    height, width = size or SIZES[index]
    rng = np.random.default_rng(200 + index)
    x1 = rng.uniform(0, width * 0.6, NUM_OBJECTS)
    y1 = rng.uniform(0, height * 0.6, NUM_OBJECTS)
    box_width = rng.uniform(24, width * 0.4, NUM_OBJECTS)
    box_height = rng.uniform(24, height * 0.4, NUM_OBJECTS)
    boxes = np.stack([x1, y1, np.minimum(x1 + box_width, width - 1), np.minimum(y1 + box_height, height - 1)], 1)
    return boxes.astype(np.float32), rng.integers(0, num_classes, NUM_OBJECTS)


def semantic(index: int, size: Size | None = None) -> np.ndarray:
    """The class of each pixel, int64 [H, W]: blocks of 32 pixels, one in ten of them 255, which counts nowhere."""
    height, width = size or SIZES[index]
    rng = np.random.default_rng(300 + index)
    shape = (height // 32 + 1, width // 32 + 1)
    blocks = np.where(rng.uniform(0, 1, shape) < 0.1, 255, rng.integers(0, NUM_SEMANTIC, shape))
    return blocks.repeat(32, 0).repeat(32, 1)[:height, :width]


def proposals(index: int, number: int, size: Size | None = None) -> np.ndarray:
    """Boxes [number, 4] float32 that come with an image: a quarter of them near its objects, the others anywhere."""
    height, width = size or SIZES[index]
    rng = np.random.default_rng(400 + index)
    near, _ = objects(index, 1, size)
    near = near[np.arange(number // 4) % len(near)] + rng.uniform(-12, 12, (number // 4, 4))
    corners = rng.uniform(0, 1, (number - len(near), 2, 2)) * [width - 20, height - 20]
    low, high = corners.min(1), corners.max(1)
    boxes = np.concatenate([near, np.concatenate([low, high + 16], 1)])
    return np.clip(boxes, 0, [width, height, width, height]).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a record's network is shown. Sizes are (H, W)."""

    num_classes: int
    sizes: Sequence[Size] = SIZES
    num_proposals: int = 0  # that come with each image
    with_semantic: bool = False

    def batch(self, divisor: int = 32) -> Batch:
        """Both images with their targets, padded to multiples of the divisor."""
        height, width = (-(-max(side) // divisor) * divisor for side in zip(*self.sizes, strict=True))
        num = len(self.sizes)
        pixels = torch.zeros(num, 3, height, width, dtype=torch.uint8)
        boxes = torch.zeros(num, SLOTS, 4)
        labels = torch.zeros(num, SLOTS, dtype=torch.int64)
        windows = torch.zeros(num, SLOTS, 4, dtype=torch.int32)
        maps = torch.full((num, height, width), 255)
        given = torch.zeros(num, self.num_proposals, 4)
        for index, (h, w) in enumerate(self.sizes):
            pixels[index, :, :h, :w] = image(index, (h, w))
            own_boxes, own_labels = objects(index, self.num_classes, (h, w))
            boxes[index, :NUM_OBJECTS] = torch.from_numpy(own_boxes)
            labels[index, :NUM_OBJECTS] = torch.from_numpy(own_labels)
            x1, y1, x2, y2 = own_boxes.astype(int).T
            windows[index, :NUM_OBJECTS] = torch.from_numpy(np.stack([x1, y1, x2 - x1, y2 - y1], 1))
            maps[index, :h, :w] = torch.from_numpy(semantic(index, (h, w)))
            given[index] = torch.from_numpy(proposals(index, self.num_proposals, (h, w)))
        areas = windows.view(-1, 4)[:, 2:].long().prod(1)
        bits = torch.ones(int(areas.sum()), dtype=torch.uint8)
        masks = MaskBuffer(bits, areas.cumsum(0) - areas, windows.view(-1, 4))
        counts = torch.full((num,), NUM_OBJECTS)
        nothing = torch.zeros(num, 0, 4), torch.zeros(num, dtype=torch.int64)
        targets = Targets(boxes, labels, counts, *nothing, masks, maps if self.with_semantic else None)
        metas = tuple(ImageMeta(i, f"{i}.png", size, size, (1.0, 1.0)) for i, size in enumerate(self.sizes))
        with_boxes = Proposals(given, torch.full((num,), self.num_proposals)) if self.num_proposals else None
        return Batch(pixels, torch.tensor(self.sizes), targets, metas, with_boxes)


def batch(num_classes: int, divisor: int = 32) -> Batch:
    """Both images with their targets, padded to multiples of the divisor."""
    return Scene(num_classes=num_classes).batch(divisor)
