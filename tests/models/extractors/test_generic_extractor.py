"""What is pooled from all levels, and how a box is enlarged."""

import pytest
import torch
from torch import nn

from fastdet.models.extractors import GenericRoIExtractor, SingleRoIExtractor
from fastdet.models.layers.plugin import PluginFactory

STRIDES = (4, 8)
ROI = torch.tensor([[0.0, 16.0, 16.0, 48.0, 48.0]])


def pyramid():
    """Two levels of a 64 x 64 image, filled with 1 and 10."""
    return [torch.full((1, 2, 64 // stride, 64 // stride), value) for stride, value in ((4, 1.0), (8, 10.0))]


def test_levels_are_added():
    pooled = GenericRoIExtractor(STRIDES, output_size=3, channels=2)(pyramid(), ROI)
    torch.testing.assert_close(pooled, torch.full((1, 2, 3, 3), 11.0))


def test_levels_are_concatenated():
    pooled = GenericRoIExtractor(STRIDES, output_size=3, aggregation="concat", channels=2)(pyramid(), ROI)
    assert pooled[0, :, 1, 1].tolist() == [1, 1, 10, 10]


def test_layers_before_and_after_have_the_known_keys_and_take_part():
    extractor = GenericRoIExtractor(
        STRIDES, output_size=3, channels=2, pre_kernel_size=3, post=PluginFactory("any", lambda c: nn.Conv2d(c, c, 1))
    )
    assert list(extractor.state_dict()) == [
        "pre_module.conv.weight",
        "pre_module.conv.bias",
        "post_module.weight",
        "post_module.bias",
    ]
    nn.init.zeros_(extractor.post_module.weight)
    nn.init.constant_(extractor.post_module.bias, 5.0)
    torch.testing.assert_close(extractor(pyramid(), ROI), torch.full((1, 2, 3, 3), 5.0))


def test_an_enlarged_box_is_pooled_from_the_level_of_the_box_itself():
    columns = torch.arange(16.0).expand(1, 1, 16, 16)
    single = SingleRoIExtractor(STRIDES, output_size=1, finest_scale=20.0)
    levels = [columns, torch.full((1, 1, 8, 8), 100.0)]
    box = torch.tensor([[0.0, 24.0, 24.0, 44.0, 44.0]])  # 20 pixels wide, 60 enlarged
    torch.testing.assert_close(single(levels, box, box_scale=1.2), single(levels, box))
    assert single(levels, box, box_scale=3.0).item() < 20
    enlarged = torch.tensor([[0.0, 4.0, 4.0, 64.0, 64.0]])
    assert single(levels, enlarged).item() == pytest.approx(100)


def test_an_unknown_aggregation_is_refused():
    with pytest.raises(ValueError, match="'sum' or 'concat', not 'mean'"):
        GenericRoIExtractor(STRIDES, aggregation="mean")
