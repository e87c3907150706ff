"""Initial values of convolutions, as MMDetection draws them. All biases start at 0.

Convolutions that a layer has initialised itself and marked with `keep_init` are left as they are.
"""

import math
from collections.abc import Callable, Iterator

from torch import nn

from fastdet.registry import LAYERS

Initialiser = Callable[[nn.Module], None]

_MARK = "keeps_init"


def keep_init(module: nn.Module) -> None:
    """Marks the convolutions inside: the functions of this file pass them by from now on."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            setattr(layer, _MARK, True)


def init_kaiming(module: nn.Module, slope: float = 0.0) -> None:
    """Normal with variance 2 / (1 + slope^2) / (output channels * kernel area), for every convolution inside.

    Source: He et al., Delving Deep into Rectifiers, equations 14 and 15.
    """
    for layer in _convolutions(module):
        nn.init.kaiming_normal_(layer.weight, a=slope, mode="fan_out", nonlinearity="leaky_relu")


def init_xavier(module: nn.Module) -> None:
    """Uniform with variance 2 / (fan in + fan out), for every convolution inside.

    Source: Glorot and Bengio, Understanding the difficulty of training deep feedforward networks, equation 16.
    """
    for layer in _convolutions(module):
        nn.init.xavier_uniform_(layer.weight)


def init_caffe2_xavier(module: nn.Module) -> None:
    """Uniform with variance 1 / fan in, which Caffe2 calls Xavier's, for every convolution inside."""
    for layer in _convolutions(module):
        nn.init.kaiming_uniform_(layer.weight, a=1, mode="fan_in", nonlinearity="leaky_relu")


def init_torch(module: nn.Module) -> None:
    """Uniform with variance 1 / (3 fan in), torch's own default but for the biases, for every convolution inside."""
    for layer in _convolutions(module):
        nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), mode="fan_in", nonlinearity="leaky_relu")


def init_normal(module: nn.Module, std: float) -> None:
    """Normal around 0, for every convolution inside."""
    for layer in _convolutions(module):
        nn.init.normal_(layer.weight, std=std)


def init_truncated_normal(module: nn.Module, std: float) -> None:
    """Normal around 0, cut off at -2 and 2, for every convolution inside."""
    for layer in _convolutions(module):
        nn.init.trunc_normal_(layer.weight, std=std)


@LAYERS.register("XavierInit")
def xavier_initialiser() -> Initialiser:
    """`init_xavier` for configs."""
    return init_xavier


@LAYERS.register("Caffe2XavierInit")
def caffe2_xavier_initialiser() -> Initialiser:
    """`init_caffe2_xavier` for configs."""
    return init_caffe2_xavier


@LAYERS.register("NormalInit")
def normal_initialiser(std: float = 1.0) -> Initialiser:
    """`init_normal` for configs."""
    return lambda module: init_normal(module, std)


@LAYERS.register("TruncNormalInit")
def truncated_normal_initialiser(std: float = 1.0) -> Initialiser:
    """`init_truncated_normal` for configs."""
    return lambda module: init_truncated_normal(module, std)


def prior_bias(probability: float) -> float:
    """The bias whose sigmoid is a small first guess, so that training does not start with a wall of false positives.

    Source: Lin et al., Focal Loss for Dense Object Detection, section 4.1.
    """
    return -math.log((1 - probability) / probability)


def _convolutions(module: nn.Module) -> Iterator[nn.Conv2d]:
    """The convolutions inside that are not marked; their biases are set to 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and not getattr(layer, _MARK, False):
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            yield layer
