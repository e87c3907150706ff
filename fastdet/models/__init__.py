"""Detectors and their parts. Importing the package registers all of them."""

from fastdet.models import (
    assigners,
    backbones,
    coders,
    criteria,
    detectors,
    extractors,
    heads,
    layers,
    losses,
    necks,
    postprocess,
    priors,
    samplers,
    stages,
)
from fastdet.models.postprocess.ties import set_tie_order
from fastdet.models.preprocess import Preprocess
from fastdet.models.samplers.order import set_sampling_order

__all__ = [
    "Preprocess",
    "assigners",
    "backbones",
    "coders",
    "criteria",
    "detectors",
    "extractors",
    "heads",
    "layers",
    "losses",
    "necks",
    "postprocess",
    "priors",
    "samplers",
    "set_sampling_order",
    "set_tie_order",
    "stages",
]
