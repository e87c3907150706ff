"""A ResNet stage between pooling and heads."""

import pytest
import torch

from fastdet.models.backbones import ResNet
from fastdet.models.heads.res_layer import ResLayer


def test_it_is_the_last_stage_of_the_resnet_of_that_depth():
    layer, resnet = ResLayer(50, style="caffe"), ResNet(50, style="caffe")
    expected = {k: v.shape for k, v in resnet.state_dict().items() if k.startswith("layer4.")}
    assert {k: v.shape for k, v in layer.state_dict().items()} == expected
    layer.load_state_dict({k: v for k, v in resnet.state_dict().items() if k in expected})
    x = torch.randn(2, 1024, 14, 14, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer.eval()(x), resnet.eval().layer4(x))
    assert layer(x).shape == (2, 2048, 7, 7)


def test_batch_norms_stay_on_their_stored_statistics():
    layer = ResLayer(18).train()
    assert layer.training
    assert not layer.layer4[0].bn1.training


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 50, "norm_eval": False}, "norm_eval=True only"),
        ({"depth": 20}, "not 20 and 3"),
        ({"depth": 50, "stage": 4}, "not 50 and 4"),
    ],
)
def test_what_cannot_be_built_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ResLayer(**arguments)
