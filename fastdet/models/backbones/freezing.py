"""Which parts of a backbone train: frozen stages, fixed statistics."""

from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def freeze(modules: Iterable[nn.Module]) -> None:
    """Puts modules into evaluation and stops their gradients."""
    for module in modules:
        module.eval()
        module.requires_grad_(False)


def eval_batch_norms(module: nn.Module) -> None:
    """Puts the batch norms inside into evaluation: they use their stored statistics and do not update them."""
    for layer in module.modules():
        if isinstance(layer, _BatchNorm):
            layer.eval()
