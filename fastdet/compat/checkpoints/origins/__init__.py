"""Weights that other programs wrote, under the names and in the order of MMDetection 3.x."""

from fastdet.compat.checkpoints.origins import detectron2, pvt, swin, torchvision
from fastdet.compat.checkpoints.origins.backbones import CAFFE2, PYCLS, TIMM_REGNET, TIMM_STEM
from fastdet.compat.checkpoints.origins.base import Fitted, Origin, Weights, fitted, with_scales

__all__ = ["ORIGINS", "Fitted", "Origin", "fit", "origin_of"]

ORIGINS: tuple[Origin, ...] = (
    detectron2.DETECTRON2,
    torchvision.TORCHVISION,
    swin.SWIN,
    pvt.PVT,
    CAFFE2,
    PYCLS,
    TIMM_REGNET,
    TIMM_STEM,
)


def origin_of(weights: Weights) -> Origin | None:
    """Who names weights like these, None for MMDetection's own names and unknown ones."""
    return next((origin for origin in ORIGINS if any(origin.mark.search(name) for name in weights)), None)


def fit(weights: Weights, own: Weights) -> Fitted:
    """The weights as the model that has `own` calls and orders them; those of no known origin as they are.

    Plain convolutions' weights for convolutions with standardised ones get the scales that keep them.
    """
    origin = origin_of({name: value for name, value in weights.items() if name not in own})
    if origin is None:
        return Fitted(with_scales(weights, own), (), None)
    found = fitted(origin, weights, own)
    return found._replace(weights=with_scales(found.weights, own))
