"""Samplers: which assigned candidates a loss looks at."""

from fastdet.models.samplers.balanced import CombinedSampler, InstanceBalancedPosSampler, IoUBalancedNegSampler
from fastdet.models.samplers.ohem import OHEMSampler
from fastdet.models.samplers.pseudo import PseudoSampler
from fastdet.models.samplers.random import RandomSampler
from fastdet.models.samplers.selection import Selection

__all__ = [
    "CombinedSampler",
    "InstanceBalancedPosSampler",
    "IoUBalancedNegSampler",
    "OHEMSampler",
    "PseudoSampler",
    "RandomSampler",
    "Selection",
]
