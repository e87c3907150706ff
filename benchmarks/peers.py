"""Peers: formulations in torch alone that no package offers, and the ops and heads of MMCV and MMDetection, whose rows
are skipped where those are not installed.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import grid_sample


def attention_by_grid_sample(
    value: Tensor, spatial_shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Deformable attention as it runs where no kernel was built: one `grid_sample` a level, then a weighted sum.

    Args and result are those of `fastdet.ops.ms_deform_attn`.
    """
    batch, _, heads, channels = value.shape
    queries = locations.shape[1]
    levels = value.split([height * width for height, width in spatial_shapes], dim=1)
    grid = (2 * locations - 1).transpose(1, 2).flatten(0, 1)  # [B * M, Q, L, P, 2]
    sampled = [
        grid_sample(
            level.flatten(2).transpose(1, 2).reshape(batch * heads, channels, *shape),
            grid[:, :, index],
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )
        for index, (level, shape) in enumerate(zip(levels, spatial_shapes, strict=True))
    ]
    factors = weights.transpose(1, 2).reshape(batch * heads, 1, queries, -1)
    output = (torch.stack(sampled, dim=-2).flatten(-2) * factors).sum(-1)
    return output.view(batch, heads * channels, queries).transpose(1, 2).contiguous()


def mmcv_ops() -> Any:
    """MMCV's compiled ops."""
    return pytest.importorskip("mmcv.ops")


def mmdet_part(registry: str, **config: Any) -> Any:
    """A part of MMDetection, in evaluation mode if it is a module."""
    pytest.importorskip("mmdet.models")
    part = getattr(pytest.importorskip("mmdet.registry"), registry).build(config)
    return part.eval() if isinstance(part, torch.nn.Module) else part


def as_maps(values: Tensor, sizes: Sequence[tuple[int, int]], anchors: int) -> list[Tensor]:
    """What a head gives a level, [B, A * C, H, W], from all anchors' values [B, P, C]."""
    levels = values.split([anchors * height * width for height, width in sizes], dim=1)
    return [
        level.unflatten(1, (*size, anchors)).flatten(3).permute(0, 3, 1, 2).contiguous()
        for level, size in zip(levels, sizes, strict=True)
    ]


def mmdet_prediction(
    kind: str, head: dict[str, Any], test_cfg: dict[str, Any], image: tuple[int, int], maps: Sequence[list[Tensor]]
) -> Callable[[], Any]:
    """`predict_by_feat` of one of MMDetection's anchor heads on the maps of two images."""
    from mmengine.config import ConfigDict  # type: ignore[import-not-found]

    head = {"type": kind, "in_channels": 8, "feat_channels": 8, **head}
    built = mmdet_part("MODELS", **head, test_cfg=ConfigDict(test_cfg)).to(maps[0][0].device)
    metas = [{"img_shape": image, "scale_factor": (1.0, 1.0)}] * 2
    return lambda: built.predict_by_feat(*maps, batch_img_metas=metas, rescale=False)
