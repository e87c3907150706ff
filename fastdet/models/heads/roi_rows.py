"""Runs the heads of the second stage on padded slots as on flat RoIs.

Letters: B images, S slots, R = B * S.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fastdet.models.readable import is_readable


def run_on_rois(
    run: Callable[..., tuple[Tensor, ...]], boxes: Tensor, valid: Tensor, *more: Tensor, trims_on_cpu: bool
) -> tuple[Tensor, ...]:
    """Results of `run` on flat RoIs, with slots again: each [B, S, ...].

    Slots without a RoI are computed like any other, so that shapes do not depend on data. On the CPU, where reading a
    count costs nothing, only the real RoIs are computed and the other slots are zero.

    Args:
        run: maps RoIs [R, 5] (image index, xyxy), which of them are real, bool [R], and what `more` says of them, to
            tensors [R, ...].
        boxes: [B, S, 4] xyxy in input pixels.
        valid: which slots hold a RoI, bool [B, S].
        more: other values of each slot, [B, S, ...].
        trims_on_cpu: whether only real RoIs are computed on the CPU.
    """
    batch, slots = valid.shape
    image = torch.arange(batch, device=boxes.device, dtype=torch.float32)[:, None, None].expand(-1, slots, 1)
    rois, present = torch.cat([image, boxes.float()], dim=2).flatten(0, 1), valid.flatten()  # [R, 5], [R]
    others = [value.flatten(0, 1) for value in more]
    if trims_on_cpu and is_readable(valid):
        rows = present.nonzero()[:, 0]
        found = run(rois[rows], present[rows], *(value[rows] for value in others))
        results = tuple(f.new_zeros(len(present), *f.shape[1:]).index_copy(0, rows, f) for f in found)
    else:
        results = run(rois, present, *others)
    return tuple(r.unflatten(0, (batch, slots)) for r in results)
