"""Samplers: which assigned candidates a loss looks at."""

from fastdet.models.samplers.pseudo import PseudoSampler
from fastdet.models.samplers.random import RandomSampler
from fastdet.models.samplers.selection import Selection

__all__ = ["PseudoSampler", "RandomSampler", "Selection"]
