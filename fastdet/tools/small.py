"""A config's detector made fit for a small test: trained from scratch, for other classes, with thinner layers."""

from collections.abc import Callable, Collection
from typing import Any

from fastdet.registry import BACKBONES, FrozenDict, Spec, defaults
from fastdet.utils.errors import ConfigError

WIDTHS = frozenset(
    (
        "in_channels", "out_channels", "base_channels", "stem_channels", "feat_channels",
        "point_feat_channels", "channels", "conv_out_channels", "fc_out_channels", "inter_channels", "num_channels",
        "embed_dims", "rfp_inplanes", "aspp_out_channels", "compressed_channels", "cls_in_channels",
        "cls_out_channels", "reg_in_channels", "reg_cls_out_channels", "reg_offset_out_channels", "num_groups",
    )
)  # fmt: skip
"""Arguments that count channels, or groups of them: all of them shrink alike, so that parts still fit together."""
PIXELS = 3
"""Channels of a picture, which never shrink."""


def from_scratch(model: Spec) -> Spec:
    """The detector with nothing frozen: what stock configs freeze, they load from a file first.

    Batch norms of backbones use the batch's statistics and are trained; batches keep their size.
    """

    def thawed(spec: Spec) -> Spec:
        left = ("frozen_stages", "requires_grad", "train_size", "resize")
        args = {name: value for name, value in spec.args.items() if name not in left}
        spec = Spec(spec.type, FrozenDict(args), spec.source, spec.arg_sources)
        return spec.replace(norm_eval=False) if "norm_eval" in defaults(spec, (BACKBONES,)) else spec

    return _changed(model, thawed)


def with_classes(model: Spec, count: int) -> Spec:
    """The detector with heads and losses for `count` classes; those of proposals and of pixels stay."""

    def counted(spec: Spec) -> Spec:
        return spec.replace(num_classes=count) if "num_classes" in {**defaults(spec), **spec.args} else spec

    return _changed(model, counted, leave=("rpn_head", "semantic_head"))


def thinned(model: Spec, factor: int) -> Spec:
    """The detector with all widths divided by `factor`, rounded down.

    A backbone without a width to set keeps its channels, and so does the input of what follows it.

    Raises:
        ConfigError: there is neither a width of the backbone nor a neck after it.
    """

    def scaled(spec: Spec) -> Spec:
        values = {**defaults(spec), **spec.args}
        # A stem alone does not shrink: RegNet's widths come from its numbers.
        widths = WIDTHS if "base_channels" in values else WIDTHS - {"stem_channels"}
        smaller = {name: _divided(v, factor) for name, v in values.items() if name in widths}
        return spec.replace(**{name: v for name, v in smaller.items() if v != values[name]})

    small = _changed(model, scaled)
    backbone = model.args.get("backbone")
    if factor == 1 or not isinstance(backbone, Spec) or scaled(backbone) != backbone or _stages(backbone):
        return small
    neck = model.args.get("neck")
    if not isinstance(neck, Spec) or neck.type == "SSDNeck":
        raise ConfigError(f"--thin: {backbone.type} has no width to set, and the layers after it take it as it is")
    return small.replace(neck=_with_input(small.args["neck"], neck))


def _changed(spec: Spec, change: Callable[[Spec], Spec], leave: Collection[str] = ()) -> Spec:
    """The tree with every Spec changed, innermost first, but for those under the names `leave`."""

    def inner(value: Any) -> Any:
        if isinstance(value, Spec):
            return _changed(value, change, leave)
        return tuple(inner(v) for v in value) if isinstance(value, tuple) else value

    return change(spec.replace(**{name: inner(value) for name, value in spec.args.items() if name not in leave}))


def _divided(value: Any, factor: int) -> Any:
    if isinstance(value, tuple):
        return tuple(_divided(v, factor) for v in value)
    return max(1, value // factor) if isinstance(value, int) and value > PIXELS else value


def _stages(backbone: Spec) -> bool:
    """Whether the backbone's widths stand in Specs of its stages, as HRNet's do."""
    values = [v for value in backbone.args.values() for v in (value if isinstance(value, tuple) else (value,))]
    return any(isinstance(v, Spec) and "num_channels" in v.args for v in values)


def _with_input(small: Spec, neck: Spec) -> Spec:
    """The small neck with the input channels of the original; of a chain, its first link."""
    links = neck.args.get("necks")
    if links:
        first, *rest = small.args["necks"]
        return small.replace(necks=(_with_input(first, links[0]), *rest))
    return small.replace(in_channels=neck.args["in_channels"])
