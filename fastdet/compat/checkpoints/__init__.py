"""Checkpoints of fastdet and of MMDetection 2.x and 3.x: finding, reading and loading them into models."""

from fastdet.compat.checkpoints.apply import LoadReport, Mismatch, load_into
from fastdet.compat.checkpoints.load import Checkpoint, load_checkpoint
from fastdet.compat.checkpoints.resolve import resolve
from fastdet.compat.checkpoints.unpickle import StandIn

__all__ = ["Checkpoint", "LoadReport", "Mismatch", "StandIn", "load_checkpoint", "load_into", "resolve"]
