"""Losses: elementwise functions with MMDetection's weighting and averaging."""

from fastdet.models.losses.cross_entropy import MaskLoss, SigmoidLoss, SoftmaxLoss, cross_entropy_loss
from fastdet.models.losses.focal import FocalLoss
from fastdet.models.losses.reduction import reduce_loss
from fastdet.models.losses.smooth_l1 import L1Loss, SmoothL1Loss

__all__ = [
    "FocalLoss",
    "L1Loss",
    "MaskLoss",
    "SigmoidLoss",
    "SmoothL1Loss",
    "SoftmaxLoss",
    "cross_entropy_loss",
    "reduce_loss",
]
