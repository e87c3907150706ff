"""Losses: elementwise functions with MMDetection's weighting and averaging."""

from fastdet.models.losses.balanced_l1 import BalancedL1Loss
from fastdet.models.losses.binary import BinaryCrossEntropyLoss
from fastdet.models.losses.cross_entropy import MaskLoss, SigmoidLoss, SoftmaxLoss, cross_entropy_loss
from fastdet.models.losses.focal import FocalLoss
from fastdet.models.losses.generalized_focal import DistributionFocalLoss, QualityFocalLoss
from fastdet.models.losses.harmonised import GHMC, GHMR
from fastdet.models.losses.iou import OverlapLoss, bounded_iou_loss, ciou_loss, diou_loss, giou_loss, iou_loss
from fastdet.models.losses.mse import MSELoss
from fastdet.models.losses.reduction import reduce_loss
from fastdet.models.losses.seesaw import SeesawLoss
from fastdet.models.losses.smooth_l1 import L1Loss, SmoothL1Loss
from fastdet.models.losses.varifocal import VarifocalLoss

__all__ = [
    "GHMC",
    "GHMR",
    "BalancedL1Loss",
    "BinaryCrossEntropyLoss",
    "DistributionFocalLoss",
    "FocalLoss",
    "L1Loss",
    "MSELoss",
    "MaskLoss",
    "OverlapLoss",
    "QualityFocalLoss",
    "SeesawLoss",
    "SigmoidLoss",
    "SmoothL1Loss",
    "SoftmaxLoss",
    "VarifocalLoss",
    "bounded_iou_loss",
    "ciou_loss",
    "cross_entropy_loss",
    "diou_loss",
    "giou_loss",
    "iou_loss",
    "reduce_loss",
]
