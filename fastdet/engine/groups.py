"""Parameter groups: learning rates and weight decays that differ by layer and name, by MMEngine's rules."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from fastdet.engine import layer_decay
from fastdet.utils.errors import ConfigError, UnsupportedConfig, suggestion

NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.GroupNorm, nn.LayerNorm)

RULES = (
    "custom_keys",
    "bias_lr_mult",
    "bias_decay_mult",
    "norm_decay_mult",
    "dwconv_decay_mult",
    "flat_decay_mult",
    "dcn_offset_lr_mult",
    "bypass_duplicate",
)


def parameter_groups(
    model: nn.Module, rules: Mapping[str, Any], *, lr: float | None, weight_decay: float | None
) -> list[dict[str, Any]]:
    """The trainable parameters in groups of equal settings, in the order of their first parameter.

    `custom_keys` maps a part of a parameter's name to `lr_mult`, `decay_mult` and further options of the group; the
    longest matching key wins and switches the other rules off. `bias_lr_mult` holds for biases outside normalisation
    layers, `dcn_offset_lr_mult` for the offset branches of deformable convolutions. Of the decays the first that
    applies counts: `norm_decay_mult` for normalisation layers, `bias_decay_mult` for biases, `dwconv_decay_mult` for
    depth-wise convolutions, `flat_decay_mult` for one-dimensional parameters; biases of offset branches are left out.
    With `bypass_duplicate` a shared parameter is taken once instead of being an error. `constructor` names another way
    to make groups, see `layer_decay`.

    MMEngine makes a group of every parameter; equal settings are joined here, which changes no update.

    Returns:
        Groups for a torch optimizer: `params` holds (name, parameter) pairs, `lr` and `weight_decay` where they differ
        from the optimizer's.

    Raises:
        UnsupportedConfig: an unknown constructor.
        ConfigError: an unknown rule, or one that needs a learning rate or weight decay which the optimizer lacks.
    """
    constructor = rules.get("constructor")
    if constructor == layer_decay.NAME:
        return layer_decay.layer_decay_groups(model, rules, lr=lr, weight_decay=weight_decay)
    if constructor is not None:
        raise UnsupportedConfig(
            f"the optimizer constructor {constructor!r} is not supported\n"
            f"  supported: the default one and {layer_decay.NAME}"
        )
    _check(rules, lr, weight_decay)
    groups: dict[str, dict[str, Any]] = {}
    seen: set[int] = set()
    for owner, path, name, parameter, in_deformable in _walk(model):
        if not parameter.requires_grad:
            continue
        if id(parameter) in seen:
            if rules.get("bypass_duplicate", False):
                continue
            raise ConfigError(
                f"parameter {path}.{name} is shared between two modules\n"
                "  give paramwise_cfg bypass_duplicate=True to train it once"
            )
        seen.add(id(parameter))
        options = _options(owner, path, name, rules, in_deformable, parameter.ndim, lr, weight_decay)
        group = groups.setdefault(repr(sorted(options.items())), {"params": [], **options})
        group["params"].append((f"{path}.{name}" if path else name, parameter))
    return list(groups.values())


def _walk(
    module: nn.Module, path: str = "", in_deformable: bool = False
) -> Iterator[tuple[nn.Module, str, str, nn.Parameter, bool]]:
    """Parameters with owner, owner's path and own name; and whether the owner's parent is a deformable convolution."""
    for name, parameter in module.named_parameters(recurse=False):
        yield module, path, name, parameter, in_deformable
    is_deformable = hasattr(module, "conv_offset")
    for name, child in module.named_children():
        yield from _walk(child, f"{path}.{name}" if path else name, is_deformable)


def _check(rules: Mapping[str, Any], lr: float | None, weight_decay: float | None) -> None:
    for rule in rules:
        if rule not in RULES:
            raise ConfigError(f"unknown rule {rule!r} for parameter groups\n  {suggestion(rule, RULES)}")
    custom = rules.get("custom_keys", {}).values()
    with_lr = [r for r in rules if r.endswith("lr_mult")] + ["custom_keys" for c in custom if "lr_mult" in c]
    with_decay = [r for r in rules if r.endswith("decay_mult")] + ["custom_keys" for c in custom if "decay_mult" in c]
    for needed, name, missing in ((with_lr, "lr", lr is None), (with_decay, "weight_decay", weight_decay is None)):
        if needed and missing:
            raise ConfigError(f"{needed[0]} multiplies the optimizer's {name}: give the optimizer {name}=...")


def _options(
    owner: nn.Module,
    path: str,
    name: str,
    rules: Mapping[str, Any],
    in_deformable: bool,
    dimensions: int,
    lr: float | None,
    weight_decay: float | None,
) -> dict[str, Any]:
    custom_keys: Mapping[str, Mapping[str, Any]] = rules.get("custom_keys", {})
    for key in sorted(sorted(custom_keys), key=len, reverse=True):
        if key in f"{path}.{name}":
            custom = dict(custom_keys[key])
            options: dict[str, Any] = {}
            if lr is not None:
                options["lr"] = lr * custom.pop("lr_mult", 1.0)
            if weight_decay is not None:
                options["weight_decay"] = weight_decay * custom.pop("decay_mult", 1.0)
            return {**options, **custom}

    options = {}
    is_norm = isinstance(owner, NORMS)
    is_bias = name == "bias"
    is_depthwise = isinstance(owner, nn.Conv2d) and owner.in_channels == owner.groups
    if is_bias and not is_norm and not in_deformable and "bias_lr_mult" in rules:
        options["lr"] = lr * rules["bias_lr_mult"]
    is_offset = in_deformable and "conv_offset" in path and isinstance(owner, nn.Conv2d)
    if is_offset and "dcn_offset_lr_mult" in rules:
        options["lr"] = lr * rules["dcn_offset_lr_mult"]

    if weight_decay is None:
        return options
    decay_rules = (
        (is_norm, "norm_decay_mult"),
        (is_bias and not in_deformable, "bias_decay_mult"),
        (is_depthwise, "dwconv_decay_mult"),
        (dimensions == 1 and not in_deformable, "flat_decay_mult"),
    )
    for applies, rule in decay_rules:
        if applies and rule in rules:
            options["weight_decay"] = weight_decay * rules[rule]
            break
    return options
