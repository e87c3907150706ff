"""Learning rates that fall from the head to the first layer of a ConvNeXt.

Source: Bao et al., BEiT, appendix (layer-wise learning rate decay), as Liu et al., A ConvNet for the 2020s, group the
layers; MMDetection's `LearningRateDecayOptimizerConstructor`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from fastdet.utils.errors import ConfigError, UnsupportedConfig, suggestion

NAME = "LearningRateDecayOptimizerConstructor"
RULES = ("num_layers", "decay_rate", "decay_type")


def layer_decay_groups(
    model: nn.Module, rules: Mapping[str, Any], *, lr: float | None, weight_decay: float | None
) -> list[dict[str, Any]]:
    """The trainable parameters in groups of one layer number each, with and without weight decay.

    Layer n of `num_layers` + 2 has the rate lr * decay_rate ** (num_layers + 1 - n); the neck and the heads have the
    last number. Biases and one-dimensional parameters have no weight decay.

    Args:
        rules: `num_layers`, `decay_rate`, `decay_type` ("layer_wise", in which the third stage's blocks count in
            threes, or "stage_wise").

    Returns:
        Groups for a torch optimizer, see `parameter_groups`.

    Raises:
        ConfigError: unknown or missing rules, or no learning rate.
        UnsupportedConfig: another backbone than ConvNeXt.
    """
    for rule in rules:
        if rule not in (*RULES, "constructor"):
            raise ConfigError(f"unknown rule {rule!r} for {NAME}\n  {suggestion(rule, RULES)}")
    missing = [rule for rule in ("num_layers", "decay_rate") if rule not in rules]
    if missing or lr is None:
        raise ConfigError(f"{NAME} needs {', '.join(missing) or 'lr of the optimizer'}")
    backbone = type(getattr(model, "backbone", None)).__name__
    if "ConvNeXt" not in backbone:
        raise UnsupportedConfig(f"{NAME} knows the layers of a ConvNeXt, not those of a {backbone}")
    kind = rules.get("decay_type", "layer_wise")
    if kind not in ("layer_wise", "stage_wise"):
        raise ConfigError(f"decay_type must be 'layer_wise' or 'stage_wise', not {kind!r}")
    number: Callable[[str, int], int] = layer_number if kind == "layer_wise" else stage_number
    last = rules["num_layers"] + 1
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        layer = number(name, rules["num_layers"])
        decays = parameter.ndim != 1 and not name.endswith(".bias")
        options: dict[str, Any] = {"lr": lr * rules["decay_rate"] ** (last - layer)}
        if weight_decay is not None:
            options["weight_decay"] = weight_decay if decays else 0.0
        groups.setdefault((layer, decays), {"params": [], **options})["params"].append((name, parameter))
    return list(groups.values())


def layer_number(name: str, num_layers: int) -> int:
    """The number of a parameter's layer: 0 for the stem, `num_layers` for the last stage, one more for all else."""
    part, stage, block = _place(name)
    if part == "downsample_layers":
        return (0, 2, 3, num_layers)[stage]
    if part == "stages":
        return (1, 2, 3 + block // 3, num_layers)[stage]
    return num_layers + 1


def stage_number(name: str, num_layers: int) -> int:
    """The number of a parameter's stage, counted from 1; 0 for what makes the maps smaller; the last for all else."""
    part, stage, _ = _place(name)
    if part == "downsample_layers":
        return 0
    return stage + 1 if part == "stages" else num_layers + 1


def _place(name: str) -> tuple[str, int, int]:
    """(part of the backbone, stage, block) of a parameter; ("", 0, 0) outside the stages."""
    words = name.split(".")
    if len(words) < 4 or words[0] != "backbone" or words[1] not in ("downsample_layers", "stages"):
        return "", 0, 0
    return words[1], int(words[2]), int(words[3])
