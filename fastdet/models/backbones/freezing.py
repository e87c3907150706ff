"""What all backbones share: stages in a row, frozen ones, fixed statistics."""

from collections.abc import Iterable

from torch import Tensor, nn
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


class Backbone(nn.Module):
    """Base of the backbones: what is frozen stays in evaluation, whatever mode the detector is put into."""

    norm_eval: bool = False  # batch norms use their stored statistics in training too
    stage_names: tuple[str, ...] = ()  # the modules that give a map, in order
    out_indices: tuple[int, ...] = ()  # which of their maps are wanted

    def train(self, mode: bool = True) -> "Backbone":
        """Training mode, but for frozen stages and, with `norm_eval`, batch norms."""
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            eval_batch_norms(self)
        return self

    def _freeze(self) -> None:
        """Stops the stages that do not train; nothing where a backbone freezes none."""

    def _stage_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps of `out_indices`, finest first."""
        maps = []
        for index, name in enumerate(self.stage_names):
            x = self.get_submodule(name)(x)
            if index in self.out_indices:
                maps.append(x)
        return tuple(maps)
