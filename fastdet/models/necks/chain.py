"""Several necks, each of which reads the levels of the one before."""

from collections.abc import Sequence

from torch import nn

from fastdet.registry import NECKS


@NECKS.register("NeckChain")
def neck_chain(necks: Sequence[nn.Module]) -> nn.Sequential:
    """Necks one after the other. Keys: 0, 1, ... in front of each neck's own."""
    return nn.Sequential(*necks)
