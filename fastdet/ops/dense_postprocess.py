"""From what a dense head says at every prior to detections or region proposals, in one op of fixed shape.

B images, L levels, P priors of all levels, A priors a cell, C classes, D numbers of a box, K output slots.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fastdet.ops.box_codes import BoxCode, delta_code
from fastdet.ops.checks import as_coordinates, check_dtype, check_iou_threshold, check_shape

Rivals = Literal["class", "level", "all"]
_RIVALS: tuple[Rivals, ...] = ("class", "level", "all")
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class Levels(NamedTuple):
    """Where priors lie: level by level, row by row, cell by cell."""

    sizes: Sequence[tuple[int, int]]  # (H, W) of each level, in cells
    cell_priors: Sequence[int]  # A of each level
    strides: Sequence[tuple[float, float]] = ()  # (sx, sy) pixels a cell, for base anchors; else empty


class DetectedBoxes(NamedTuple):
    """K slots an image, best first; slots at and after the count hold zeros."""

    boxes: Tensor  # [B, K, 4] float32 xyxy
    scores: Tensor  # [B, K] float32
    labels: Tensor  # [B, K] int64
    count: Tensor  # type: ignore[assignment]  # [B] int64; hides tuple.count


def dense_postprocess(
    logits: Tensor,
    codes: Tensor,
    priors: Tensor,
    image_sizes: Tensor,
    levels: Levels,
    code: BoxCode,
    *,
    iou_threshold: float,
    max_output: int,
    limit: int = -1,
    score_threshold: float = -1.0,
    min_size: float = -1.0,
    quality: Tensor | None = None,
    rivals: Rivals = "class",
    best_class: bool = False,
) -> DetectedBoxes:
    """Detections: the best candidates of each level above a score, decoded and thinned by NMS.

    A candidate is a pair of prior and class, its score the sigmoid of its logit. Only the few candidates that a level
    gives are ever decoded, and base anchors are not laid out. Of equal scores the earlier pair comes first. A logit
    that is NaN or minus infinity is no candidate. There is no host sync, so a GPU can capture the op in a graph.

    Args:
        logits: [B, P, C] float32, float16 or bfloat16, as the next one.
        codes: [B, P, D], what the head says of the boxes; D is 4, or 4 * (R + 1) for distributions.
        priors: [P, 4] or [B, P, 4] xyxy; or base anchors [L, A, 4] around the origin, if `levels` has strides.
        image_sizes: [B, 2] (H, W), to which boxes are clipped.
        levels: where the priors lie.
        code: how `codes` describe boxes.
        iou_threshold: in [0, 1]: rivals of a higher IoU are suppressed.
        max_output: K.
        limit: candidates a level at most; 0 or less: all.
        score_threshold: candidates have a higher score; negative: any.
        min_size: boxes have width and height above it, in pixels; negative: any.
        quality: [B, P] logits; scores are multiplied by their sigmoids after the candidates are chosen.
        rivals: which boxes suppress each other: those of the same class, of the same level, or all.
        best_class: a candidate is a prior with the class of its best score (ties: the lower class); scores are
            multiplied by the quality before candidates are chosen, and reach the threshold.

    Returns:
        Boxes, scores, labels and counts. Nothing of it is differentiable.

    Raises:
        ValueError: a shape, dtype, threshold or count does not fit.

    Source: the steps are those of MMDetection's dense heads, in its order.
    """
    check_shape("logits", logits, None, None, None)
    batch, num_priors, _ = logits.shape
    check_shape("codes", codes, batch, num_priors, None)
    check_shape("image_sizes", image_sizes, batch, 2)
    check_dtype("logits", logits, *_DTYPES)
    check_dtype("codes", codes, *_DTYPES)
    if quality is not None:
        check_shape("quality", quality, batch, num_priors)
        check_dtype("quality", quality, *_DTYPES)
    if rivals not in _RIVALS:
        raise ValueError(f"`rivals` must be one of {_RIVALS}, got {rivals!r}")
    if len(levels.sizes) != len(levels.cell_priors) or (levels.strides and len(levels.strides) != len(levels.sizes)):
        raise ValueError(
            f"`levels` must have as many sizes ({len(levels.sizes)}) as cell_priors ({len(levels.cell_priors)}) "
            f"and strides ({len(levels.strides)}, or none)"
        )
    check_iou_threshold(iou_threshold)
    if max_output < 0:
        raise ValueError(f"`max_output` must not be negative, got {max_output}")
    found = torch.ops.fastdet.dense_postprocess(
        logits.detach(),
        codes.detach(),
        None if quality is None else quality.detach(),
        as_coordinates("priors", priors.detach()),
        image_sizes.to(torch.float32),
        [side for size in levels.sizes for side in size],
        list(levels.cell_priors),
        [float(step) for stride in levels.strides for step in stride],
        code.number,
        list(code.numbers),
        code.clips,
        limit,
        score_threshold,
        min_size,
        _RIVALS.index(rivals),
        iou_threshold,
        max_output,
        best_class,
    )
    return DetectedBoxes(*found)


def rpn_proposals(
    logits: Tensor,
    deltas: Tensor,
    base_anchors: Tensor,
    image_sizes: Tensor,
    level_sizes: Sequence[tuple[int, int]],
    strides: Sequence[tuple[float, float]],
    *,
    iou_threshold: float,
    max_output: int,
    limit: int = -1,
    min_size: float = -1.0,
    code: BoxCode | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Region proposals: the best anchors of each level, decoded, clipped and thinned by NMS within the level.

    `dense_postprocess` with one class, no threshold, and the level as what boxes are rivals in.

    Args:
        logits: [B, P] objectness: float32, float16 or bfloat16, as the next one.
        deltas: [B, P, 4].
        base_anchors: [L, A, 4] xyxy around the origin, in pixels; the anchors are never laid out.
        image_sizes: [B, 2] (H, W), to which boxes are clipped.
        level_sizes: (H, W) of each level, in cells.
        strides: (sx, sy) of each level, pixels a cell.
        iou_threshold: in [0, 1].
        max_output: K.
        limit: anchors a level at most; 0 or less: all.
        min_size: boxes have width and height above it, in pixels; negative: any.
        code: of the deltas; None: `delta_code()`.

    Returns:
        Boxes [B, K, 4] float32 xyxy, scores [B, K] float32 and counts int64 [B].

    Raises:
        ValueError: a shape, dtype, threshold or count does not fit.

    Source: Ren et al., "Faster R-CNN" (NeurIPS 2015), section 3; levels: Lin et al., "Feature Pyramid Networks" (CVPR
    2017), section 4.1.
    """
    check_shape("logits", logits, None, None)
    check_shape("base_anchors", base_anchors, len(level_sizes), None, 4)
    found = dense_postprocess(
        logits[..., None],
        deltas,
        base_anchors,
        image_sizes,
        Levels(level_sizes, [base_anchors.shape[1]] * len(level_sizes), strides),
        code or delta_code(),
        iou_threshold=iou_threshold,
        max_output=max_output,
        limit=limit,
        min_size=min_size,
        rivals="level",
    )
    return found.boxes, found.scores, found.count


@torch.library.register_fake("fastdet::dense_postprocess")
def _dense_postprocess_fake(
    logits: Tensor,
    codes: Tensor,
    quality: Tensor | None,
    priors: Tensor,
    image_sizes: Tensor,
    level_sizes: list[int],
    cell_priors: list[int],
    strides: list[float],
    code: int,
    code_numbers: list[float],
    clips: bool,
    limit: int,
    score_threshold: float,
    min_size: float,
    rivals: int,
    iou_threshold: float,
    max_output: int,
    best_class: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    shape = (logits.shape[0], max_output)
    return (
        logits.new_empty(*shape, 4, dtype=torch.float32),
        logits.new_empty(shape, dtype=torch.float32),
        logits.new_empty(shape, dtype=torch.int64),
        logits.new_empty(shape[0], dtype=torch.int64),
    )
