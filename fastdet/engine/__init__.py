"""Training: the loop, what stands around it, and the files of a run."""

from fastdet.engine.guard import Diverged
from fastdet.engine.hooks import Hook
from fastdet.engine.runner import Runner
from fastdet.engine.state import Loader, TrainState

__all__ = ["Diverged", "Hook", "Loader", "Runner", "TrainState"]
