"""What the tables of origins share: rules for names, changes of order, and where the names stand in a model."""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]
BACKBONE = "backbone."
_STANDARDISED_EPS = 1e-5  # added to the variance, as the convolution does

NewName = str | Callable[[re.Match[str]], str]
Rule = tuple[str, NewName]
"""A pattern that a whole name matches, and its new name: "" to leave the weight out."""


@dataclass(frozen=True)
class Origin:
    """A program's way of naming weights.

    `mark` is found in a name of every file of its, and in no name of MMDetection's. `rules` give the names; the first
    match counts, a name without a match stays. `values` changes a weight, given its new name, the weight and all
    weights of the file under new names, and the model's weight of that name if there is one.
    """

    title: str
    mark: re.Pattern[str]
    rules: Callable[[Weights], Sequence[Rule]]
    values: Callable[[str, Tensor, Weights, Tensor | None], Tensor] = lambda name, value, weights, own: value


class Fitted(NamedTuple):
    """Weights under a model's names; `renamed` pairs the file's names with them."""

    weights: Weights
    renamed: tuple[tuple[str, str], ...]
    origin: Origin | None


def fitted(origin: Origin, weights: Weights, own: Weights) -> Fitted:
    """The weights in the model's names and order."""
    names = new_names(origin, weights)
    place = _placement(names.values(), own)
    moved: OrderedDict[str, Tensor] = OrderedDict((names[old], value) for old, value in weights.items() if names[old])
    result: OrderedDict[str, Tensor] = OrderedDict()
    for name, value in moved.items():
        result[place(name)] = origin.values(name, value, moved, own.get(place(name)))
    _complete(result, own)
    renamed = tuple((old, place(new)) for old, new in names.items() if new and place(new) != old)
    return Fitted(result, renamed, origin)


def new_names(origin: Origin, weights: Weights) -> dict[str, str]:
    """Each name of the file with its new one, "" for those that are left out."""
    rules = [(re.compile(pattern), new) for pattern, new in origin.rules(weights)]
    return {name: _renamed(name, rules) for name in weights}


def _renamed(name: str, rules: Sequence[tuple[re.Pattern[str], NewName]]) -> str:
    for pattern, new in rules:
        found = pattern.fullmatch(name)
        if found:
            return found.expand(new) if isinstance(new, str) else new(found)
    return name


def _placement(names: Iterable[str], own: Weights) -> Callable[[str], str]:
    """From a detector's names to the model's, which may be the backbone alone."""
    listed = [name for name in names if name]
    inner = [name.removeprefix(BACKBONE) for name in listed]
    if sum(name in own for name in inner) > sum(name in own for name in listed):
        return lambda name: name.removeprefix(BACKBONE)
    return lambda name: name


def with_scales(weights: Weights, own: Weights) -> Weights:
    """The weights, and for convolutions with standardised weights (ConvAWS) the scale and shift that undo it."""
    scales = {}
    for name in own:
        start = name.removesuffix("weight_gamma")
        if start == name or name in weights or f"{start}weight" not in weights:
            continue
        weight = weights[f"{start}weight"]
        axes = tuple(range(1, weight.dim()))
        scales[name] = (weight.var(axes, keepdim=True) + _STANDARDISED_EPS).sqrt()
        scales[f"{start}weight_beta"] = weight.mean(axes, keepdim=True)
    return {**weights, **scales} if scales else weights


def _complete(weights: "OrderedDict[str, Tensor]", own: Weights) -> None:
    """Adds the statistics that norms without any stand for: mean 0 and variance 1."""
    for name, value in own.items():
        layer, _, kind = name.rpartition(".")
        if name in weights or kind not in ("running_mean", "running_var") or f"{layer}.weight" not in weights:
            continue
        weights[name] = torch.full_like(value, float(kind == "running_var"), device=weights[f"{layer}.weight"].device)
