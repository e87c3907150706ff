"""Focal loss of sigmoids in one pass: no probabilities, one-hot targets or weighted copies in memory.

C classes; [...] are any leading dimensions.
"""

from typing import Any, Literal

import torch
from torch import Tensor

from fastdet.ops.checks import check_dtype, check_shape
from fastdet.ops.roi_align import FEATURE_DTYPES


def sigmoid_focal_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    weight: Tensor | None = None,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    reduction: Literal["none", "sum"] = "none",
) -> Tensor:
    """Binary cross entropy of each class, scaled down where the prediction is right already.

    With p the sigmoid of the logit of a row's own class, its loss is -alpha (1 - p)^gamma log p; with p that of another
    class, -(1 - alpha) p^gamma log(1 - p). Computed in float32 (float64 for float64 logits), under autocast too, and
    without cancellation. An element of weight 0 has loss and gradient 0 even if its logit is not finite.

    Args:
        logits: [..., C]: float32, float16, bfloat16 or float64.
        labels: [...] int64: the class, or any number outside of [0, C) for background; MMDetection's is C.
        weight: [...] or [..., C], a constant: it gets no gradient. None: ones.
        alpha: Weight of positives; negatives have 1 - alpha. None: both have 1.
        gamma: Exponent of the wrong probability, not negative.
        reduction: "none": [..., C]. "sum": one number, summed in float64 in an order that does not depend on the
            number of threads.

    Returns:
        The loss, float32 (float64 for float64 logits). Differentiable once with respect to the logits.

    Raises:
        ValueError: A shape, dtype, gamma or the reduction does not fit, or the weight requires a gradient.

    Source: Lin et al., "Focal Loss for Dense Object Detection" (ICCV 2017), equation 5.
    """
    check_dtype("logits", logits, *FEATURE_DTYPES)
    if logits.dim() == 0:
        raise ValueError("`logits` must have a dimension of classes, got a single number")
    check_shape("labels", labels, *logits.shape[:-1])
    check_dtype("labels", labels, torch.int64)
    if gamma < 0:
        raise ValueError(f"`gamma` must not be negative, got {gamma}")
    if reduction not in ("none", "sum"):
        raise ValueError(f"`reduction` must be 'none' or 'sum', got {reduction!r}")
    if weight is not None:
        if weight.requires_grad:
            raise ValueError("`weight` gets no gradient: detach it")
        by_row = weight.dim() == labels.dim()
        check_shape("weight", weight, *(labels.shape if by_row else logits.shape))
        weight = weight.to(_sum_dtype(logits)).flatten() if by_row else _table(weight.to(_sum_dtype(logits)))
    positive, negative = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    loss = torch.ops.fastdet.sigmoid_focal_loss(
        _table(logits), labels.flatten(), weight, positive, negative, gamma, reduction == "sum"
    )
    return loss if reduction == "sum" else loss.view(logits.shape)


def _table(values: Tensor) -> Tensor:
    """[..., C] as [N, C]."""
    return values[None] if values.dim() == 1 else values.flatten(0, -2)


def _sum_dtype(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


@torch.library.register_fake("fastdet::sigmoid_focal_loss")
def _sigmoid_focal_loss_fake(
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    positive: float,
    negative: float,
    gamma: float,
    reduce: bool,
) -> Tensor:
    return logits.new_empty(() if reduce else logits.shape, dtype=_sum_dtype(logits))


@torch.library.register_fake("fastdet::sigmoid_focal_loss_backward")
def _sigmoid_focal_loss_backward_fake(
    grad: Tensor,
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    positive: float,
    negative: float,
    gamma: float,
) -> Tensor:
    return logits.new_empty(logits.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    logits, labels, weight, positive, negative, gamma, _ = inputs
    ctx.save_for_backward(logits, labels, weight)
    ctx.options = (positive, negative, gamma)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    slope = torch.ops.fastdet.sigmoid_focal_loss_backward(grad, *ctx.saved_tensors, *ctx.options)
    return slope, *[None] * 6


torch.library.register_autograd("fastdet::sigmoid_focal_loss", _gradient, setup_context=_setup)
