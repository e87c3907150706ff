"""Switches the samplers of a built detector."""

from torch import nn

from fastdet.models.samplers.balanced import CombinedSampler
from fastdet.models.samplers.random import RandomSampler
from fastdet.models.samplers.slots import Order


def set_sampling_order(detector: nn.Module, order: Order) -> None:
    """Makes every random sampler of a detector take its candidates by chance, or in their order.

    The order is for reproducing figures: it equals MMDetection with the identity in place of its random permutation.
    Samplers are found as the attribute `sampler` of the detector's modules.
    """
    for module in detector.modules():
        sampler = getattr(module, "sampler", None)
        if isinstance(sampler, RandomSampler | CombinedSampler):
            sampler.order = order
