"""The R-CNN box parametrisation: centre shift relative to a reference box, logarithm of the size ratio."""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from fastdet.ops import BoxCode, delta_code
from fastdet.registry import CODERS


@CODERS.register()
class DeltaXYWHBBoxCoder:
    """Boxes as (dx, dy, dw, dh) relative to reference boxes, normalised by means and standard deviations.

    Source: Girshick et al., Rich feature hierarchies, appendix C. All arithmetic is float32.

    Args:
        target_means: subtracted from the four deltas.
        target_stds: the four deltas are divided by them.
        clip_border: whether decoded boxes are clipped to the image when its size is given.
        add_ctr_clamp: limit the centre shift to `ctr_clamp` pixels and bound only growth, not shrinking (YOLOF).
        ctr_clamp: pixels.
    """

    width: ClassVar[int] = 4  # numbers of a box

    def __init__(
        self,
        target_means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
        target_stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        *,
        clip_border: bool = True,
        add_ctr_clamp: bool = False,
        ctr_clamp: float = 32,
    ) -> None:
        for name, values in (("target_means", target_means), ("target_stds", target_stds)):
            if len(values) != 4:
                raise ValueError(f"{name} needs four numbers (x, y, width, height), not {tuple(values)}")
        if not all(std > 0 for std in target_stds):
            raise ValueError(f"target_stds must be positive, not {tuple(target_stds)}")
        self.means = tuple(target_means)
        self.stds = tuple(target_stds)
        self.clip_border = clip_border
        self.add_ctr_clamp = add_ctr_clamp
        self.ctr_clamp = ctr_clamp

    def encode(self, references: Tensor, boxes: Tensor) -> Tensor:
        """The deltas that lead from references to boxes.

        Empty boxes (padded slots) give infinities or NaN, which the caller masks.

        Args:
            references: [..., 4] xyxy.
            boxes: [..., 4] xyxy; leading dimensions broadcast.

        Returns:
            [..., 4] float32.
        """
        px, py, pw, ph = _center_and_size(references.float())
        gx, gy, gw, gh = _center_and_size(boxes.float())
        deltas = ((gx - px) / pw, (gy - py) / ph, torch.log(gw / pw), torch.log(gh / ph))
        normalised = [(d - m) / s for d, m, s in zip(deltas, self.means, self.stds, strict=True)]
        return torch.stack(normalised, dim=-1)

    def decode(
        self,
        references: Tensor,
        deltas: Tensor,
        sizes: Tensor | None = None,
        *,
        wh_ratio_clip: float = 16 / 1000,
    ) -> Tensor:
        """The boxes that deltas describe.

        Args:
            references: [..., 4] xyxy.
            deltas: [..., 4]; leading dimensions broadcast with those of references.
            sizes: [B, 2] (H, W), where the first dimension of the result is B: boxes are clipped to [0, W] x [0, H]
                unless `clip_border` is off.
            wh_ratio_clip: the largest change of width or height is its inverse, and itself.

        Returns:
            [..., 4] float32 xyxy.
        """
        dx, dy, dw, dh = (d * s + m for d, s, m in zip(deltas.float().unbind(-1), self.stds, self.means, strict=True))
        px, py, pw, ph = _center_and_size(references.float())
        shift_x, shift_y = pw * dx, ph * dy
        limit = abs(math.log(wh_ratio_clip))
        if self.add_ctr_clamp:
            shift_x = shift_x.clamp(-self.ctr_clamp, self.ctr_clamp)
            shift_y = shift_y.clamp(-self.ctr_clamp, self.ctr_clamp)
            dw, dh = dw.clamp(max=limit), dh.clamp(max=limit)
        else:
            dw, dh = dw.clamp(-limit, limit), dh.clamp(-limit, limit)
        x, y = px + shift_x, py + shift_y
        half_w, half_h = pw * dw.exp() * 0.5, ph * dh.exp() * 0.5
        x1, y1, x2, y2 = x - half_w, y - half_h, x + half_w, y + half_h
        if sizes is not None and self.clip_border:
            height, width = sizes.to(x1.dtype).reshape(-1, 2, *[1] * (x1.dim() - 1)).unbind(1)
            x1, x2 = (torch.minimum(v.clamp(min=0), width) for v in (x1, x2))
            y1, y2 = (torch.minimum(v.clamp(min=0), height) for v in (y1, y2))
        return torch.stack((x1, y1, x2, y2), dim=-1)

    def box_code(self) -> BoxCode:
        """The coder as the kernels of post-processing know it."""
        limit = self.ctr_clamp if self.add_ctr_clamp else None
        return delta_code(self.means, self.stds, center_limit=limit, clips=self.clip_border)


def _center_and_size(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x1 + x2) * 0.5, (y1 + y2) * 0.5, x2 - x1, y2 - y1
