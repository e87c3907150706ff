"""Adaptive pooling of an exported graph is torch's."""

import pytest
import torch
import torch.nn.functional as F

from fastdet.deploy.static_pooling import adaptive_max_pool2d


@pytest.mark.parametrize("output_size", [(3, 4), (7, 5), (6, 8), (1, 1), (9, 11)])
def test_windows_are_those_of_torch(output_size: tuple[int, int]) -> None:
    maps = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(adaptive_max_pool2d(maps, output_size)[0], F.adaptive_max_pool2d(maps, output_size))
