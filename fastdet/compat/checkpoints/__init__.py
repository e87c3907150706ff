"""Checkpoints of fastdet, MMDetection and other programs: finding, reading and loading them into models."""

from fastdet.compat.checkpoints.apply import LoadReport, Mismatch, load_into, matched
from fastdet.compat.checkpoints.load import Checkpoint, load_checkpoint
from fastdet.compat.checkpoints.resolve import resolve
from fastdet.compat.checkpoints.stored import stored_config
from fastdet.compat.checkpoints.unpickle import StandIn
from fastdet.compat.checkpoints.upgrade import upgrade

__all__ = [
    "Checkpoint",
    "LoadReport",
    "Mismatch",
    "StandIn",
    "load_checkpoint",
    "load_into",
    "matched",
    "resolve",
    "stored_config",
    "upgrade",
]
