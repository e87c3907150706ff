"""Plugins of residual blocks: layers that map features to features of the same shape, by position and stage."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from fastdet.registry import LAYERS

Position = Literal["after_conv1", "after_conv2", "after_conv3"]


@dataclass(frozen=True)
class PluginFactory:
    """Makes layers of one kind for a number of channels. `name` is the attribute that they get in a block."""

    name: str
    make: Callable[[int], nn.Module]


@LAYERS.register()
@dataclass(frozen=True)
class BlockPlugin:
    """Where a plugin stands.

    Args:
        layer: makes it.
        position: after which convolution of a bottleneck, its norm and its activation.
        stages: for each stage whether its blocks have the plugin; None: all of them.
        postfix: ends the attribute's name, where a block has several of one kind.
    """

    layer: PluginFactory
    position: Position
    stages: Sequence[bool] | None = None
    postfix: str | int = ""

    @property
    def name(self) -> str:
        """The attribute in the block."""
        return f"{self.layer.name}{self.postfix}"

    def is_in(self, stage: int) -> bool:
        """Whether a stage's blocks have it."""
        return self.stages is None or bool(self.stages[stage])
