"""Networks of the package timm (PyTorch Image Models) as backbones."""

import importlib
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from fastdet.registry import BACKBONES
from fastdet.utils.errors import EnvironmentProblem


@BACKBONES.register()
class TIMMBackbone(nn.Module):
    """A network of timm without its classifier. Key: timm_model.

    Args:
        model_name: as timm calls it.
        features_only: whether timm gives the maps of several stages; otherwise the last one comes out alone.
        arguments: further arguments of `timm.create_model`, such as out_indices.

    Raises:
        EnvironmentProblem: timm is not installed.
        ValueError: a name or an argument that timm does not know.
    """

    def __init__(
        self,
        model_name: str,
        *,
        features_only: bool = False,
        in_channels: int = 3,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.features_only = features_only
        try:
            timm = importlib.import_module("timm")
        except ImportError:
            raise EnvironmentProblem(
                f"the backbone {model_name!r} needs the package timm: pip install 'fastdet[timm]'"
            ) from None
        try:
            self.timm_model = timm.create_model(
                model_name, features_only=features_only, in_chans=in_channels, **(arguments or {})
            )
        except (RuntimeError, TypeError, AssertionError) as problem:
            raise ValueError(f"timm cannot make {model_name!r}: {problem}") from problem
        if hasattr(self.timm_model, "reset_classifier"):
            self.timm_model.reset_classifier(0, "")

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps, finest first, of normalised pixels [B, in_channels, H, W]."""
        if self.features_only:
            return tuple(self.timm_model(x))
        return (self.timm_model.forward_features(x),)
