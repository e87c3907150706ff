"""What the backbones of ResNet's family have in common in both dialects and in MMPretrain."""

from collections.abc import Mapping
from typing import Any

from fastdet.compat.dialect import Section, spec

BATCH_NORM = {"type": "BN"}
RESIDUAL: dict[str, Any] = {
    "in_channels": 3,
    "dilations": (1, 1, 1, 1),
    "out_indices": (0, 1, 2, 3),
    "style": "pytorch",
    "avg_down": False,
    "frozen_stages": -1,
    "norm_eval": True,
    "with_cp": False,
    "zero_init_residual": True,
}
RESNET: dict[str, Any] = RESIDUAL | {
    "depth": None,
    "stem_channels": None,
    "base_channels": 64,
    "num_stages": 4,
    "strides": (1, 2, 2, 2),
    "deep_stem": False,
}
REGNET: dict[str, Any] = RESIDUAL | {"stem_channels": 32, "strides": (2, 2, 2, 2)}


def regnet_arch(section: Section) -> Any:
    """RegNet's `arch`: a name, or the Spec of its numbers."""
    section.skip("base_channels")  # the widths come from those numbers alone
    section.only("deep_stem", False)
    arch = section.take("arch")
    return spec("RegNetArch", arch, arch) if isinstance(arch, Mapping) else arch
