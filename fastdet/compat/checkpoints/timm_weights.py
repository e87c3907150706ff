"""Weights that the package timm finds by a network's name."""

import importlib
from collections import OrderedDict

from torch import Tensor

from fastdet.utils.errors import CheckpointError, EnvironmentProblem

SCHEME = "timm://"


def timm_weights(name: str) -> "OrderedDict[str, Tensor]":
    """The pretrained weights of a network, classifier included, from timm's cache or the network.

    Args:
        name: with or without the scheme.

    Raises:
        EnvironmentProblem: timm is not installed.
        CheckpointError: timm knows no weights of that name, or cannot get them.
    """
    name = name.removeprefix(SCHEME)
    try:
        timm = importlib.import_module("timm")
    except ImportError:
        raise EnvironmentProblem(
            f"the weights of {name!r} need the package timm: pip install 'fastdet[timm]'"
        ) from None
    try:
        return OrderedDict(timm.create_model(name, pretrained=True).state_dict())
    except (OSError, RuntimeError) as problem:
        raise CheckpointError(
            f"timm has no weights of {name!r} here: {problem}\n  or start without: pretrained=False in the backbone"
        ) from problem
