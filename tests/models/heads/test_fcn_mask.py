"""The mask head: names, shapes, initial values."""

import pytest
import torch

from fastdet.models.heads.fcn_mask import FCNMaskHead
from fastdet.models.layers.carafe import carafe_upsample


def shapes(head):
    return {name: tuple(value.shape) for name, value in head.state_dict().items()}


def test_names_and_shapes_are_those_of_mask_rcnn():
    assert shapes(FCNMaskHead(num_classes=3, in_channels=8, num_convs=2, conv_out_channels=6)) == {
        "convs.0.conv.weight": (6, 8, 3, 3),
        "convs.0.conv.bias": (6,),
        "convs.1.conv.weight": (6, 6, 3, 3),
        "convs.1.conv.bias": (6,),
        "upsample.weight": (6, 6, 2, 2),
        "upsample.bias": (6,),
        "conv_logits.weight": (3, 6, 1, 1),
        "conv_logits.bias": (3,),
    }


@pytest.mark.parametrize("upsample", ["deconv", "nearest", "bilinear"])
def test_masks_are_twice_as_large_as_the_features(upsample):
    head = FCNMaskHead(3, 4, num_convs=1, conv_out_channels=5, upsample=upsample)
    assert head(torch.zeros(2, 4, 14, 14)).shape == (2, 3, 28, 28)
    assert head(torch.zeros(0, 4, 14, 14)).shape == (0, 3, 28, 28)


def test_without_upsampling_masks_have_the_size_of_the_features():
    assert FCNMaskHead(3, 4, num_convs=0, upsample=None)(torch.zeros(2, 4, 14, 14)).shape == (2, 3, 14, 14)


def test_a_class_agnostic_head_has_one_mask():
    assert FCNMaskHead(3, 4, num_convs=0, class_agnostic=True)(torch.zeros(2, 4, 14, 14)).shape == (2, 1, 28, 28)


def test_initial_weights_have_kaimings_distribution_over_the_outputs():
    torch.manual_seed(0)
    head = FCNMaskHead(80, 64, num_convs=1, conv_out_channels=64)
    assert head.convs[0].conv.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)
    # A transposed convolution's fan out is counted along its first dimension, the input channels.
    assert head.upsample.weight.std().item() == pytest.approx((2 / (64 * 4)) ** 0.5, rel=0.05)
    assert head.conv_logits.weight.std().item() == pytest.approx((2 / 80) ** 0.5, rel=0.05)
    assert all((value == 0).all() for name, value in head.named_parameters() if name.endswith("bias"))


def test_an_unknown_upsampling_is_refused():
    with pytest.raises(ValueError, match="'deconv', 'nearest', 'bilinear' or None, not 'carafe'"):
        FCNMaskHead(upsample="carafe")


def test_masks_may_be_enlarged_with_predicted_kernels():
    head = FCNMaskHead(2, 4, num_convs=1, conv_out_channels=8, upsample=carafe_upsample(compressed_channels=3))
    assert head(torch.rand(3, 4, 7, 7)).shape == (3, 2, 14, 14)
    assert "upsample.content_encoder.weight" in head.state_dict()
    assert head.upsample.content_encoder.weight.std() < 0.01  # its own start
