"""Plugins and attention over cells: identity at the start, hand-computed values, keys."""

import pytest
import torch
from torch import nn

from fastdet.models.layers import ContextBlock, GeneralizedAttention, NonLocal2d, init_kaiming
from fastdet.registry import LAYERS, Spec, build


@pytest.mark.parametrize(
    "layer",
    [
        ContextBlock(8, ratio=0.5),
        GeneralizedAttention(8, num_heads=2),
        GeneralizedAttention(8, num_heads=2, attention_type="0010"),
        NonLocal2d(8),
    ],
    ids=["context", "attention", "saliency", "non-local"],
)
def test_a_new_layer_changes_nothing_even_after_its_network_was_initialised(layer: nn.Module) -> None:
    init_kaiming(layer)
    x = torch.rand(2, 8, 5, 7)
    torch.testing.assert_close(layer(x), x)


def test_a_context_is_the_weighted_mean_of_all_cells() -> None:
    block = ContextBlock(1, ratio=1, fusion_types=("channel_mul",))
    assert block.conv_mask is not None
    assert block.channel_mul_conv is not None
    nn.init.constant_(block.conv_mask.weight, 1.0)
    for name, value in (("0.weight", 0.0), ("3.weight", 0.0), ("3.bias", 2.0)):
        nn.init.constant_(block.channel_mul_conv.get_parameter(name), value)
    x = torch.tensor([[[[0.0, 1.0]]]])
    weights = torch.tensor([0.0, 1.0]).softmax(0)
    torch.testing.assert_close(block._context(x).item(), weights[1].item())
    torch.testing.assert_close(block(x), x * torch.tensor(2.0).sigmoid())
    average = ContextBlock(1, ratio=1, pooling_type="avg")
    assert average._context(x).item() == 0.5


def test_context_keys_are_mmcvs() -> None:
    keys = set(ContextBlock(8, ratio=0.5, fusion_types=("channel_add", "channel_mul")).state_dict())
    assert {"conv_mask.weight", "channel_add_conv.0.weight", "channel_add_conv.1.bias"} <= keys
    assert {"channel_add_conv.3.bias", "channel_mul_conv.3.weight"} <= keys


def test_attention_to_equal_keys_is_their_mean() -> None:
    layer = GeneralizedAttention(4, num_heads=2, attention_type="1000", kv_stride=2)
    nn.init.zeros_(layer.query_conv.weight)  # every key is asked for equally
    for conv in (layer.value_conv, layer.proj_conv):
        conv.weight.data = torch.eye(4)[:, :, None, None].clone()
    nn.init.ones_(layer.gamma)
    x = torch.rand(1, 4, 3, 5)
    mean = x[:, :, ::2, ::2].mean((2, 3), keepdim=True)
    torch.testing.assert_close(layer(x), x + mean)


@pytest.mark.parametrize("terms", ["1111", "1000", "0100", "0010", "0001", "0110", "1001", "0011"])
def test_every_combination_of_terms_gives_the_maps_shape_and_gradients(terms: str) -> None:
    torch.manual_seed(0)
    layer = GeneralizedAttention(8, num_heads=2, attention_type=terms)
    nn.init.ones_(layer.gamma)
    rows = 6 if terms in ("0100", "0110") else 5
    out = layer(torch.rand(2, 8, rows, 6))
    out.square().sum().backward()
    assert out.shape == (2, 8, rows, 6)
    assert all(p.grad is not None for p in layer.parameters())


def test_without_positions_alone_vertical_distances_are_asked_for_by_the_mirrored_cell() -> None:
    """Only horizontally: the cell itself. Only vertically: the transposed map's answer."""
    torch.manual_seed(0)
    layer = GeneralizedAttention(4, num_heads=1, attention_type="0100", kv_stride=1)
    x = torch.rand(1, 4, 3, 3)
    query = layer.query_conv(x)[0]  # [4, 3, 3]
    nn.init.zeros_(layer.appr_geom_fc_x.weight)
    features = layer._position_features(layer.appr_geom_fc_y, 3, 3, x)[0]  # [3, 3, 4]
    energy = layer._energy(x, x)[0, 0].view(3, 3, 3, 3)  # query's row and column, key's row and column
    expected = torch.einsum("dxy,ykd->yxk", query, features)  # row and column swapped
    torch.testing.assert_close(energy, expected[..., None].expand(-1, -1, -1, 3))
    with pytest.raises(ValueError, match="square maps, not 2 x 3"):
        layer(torch.rand(1, 4, 2, 3))


def test_terms_decide_the_parameters() -> None:
    def names(terms: str) -> set[str]:
        return {k.split(".")[0] for k in GeneralizedAttention(8, num_heads=2, attention_type=terms).state_dict()}

    assert names("0010") == {"key_conv", "value_conv", "appr_bias", "proj_conv", "gamma"}
    positions = {"appr_geom_fc_x", "appr_geom_fc_y"}
    assert names("0100") == {"query_conv", "value_conv", "proj_conv", "gamma"} | positions
    assert names("1111") == {"query_conv", "geom_bias"} | names("0010") | positions


def test_non_local_attention_is_hand_computed() -> None:
    layer = NonLocal2d(1, reduction=1, use_scale=False)
    for conv in (layer.g, layer.theta, layer.phi, layer.conv_out):
        nn.init.ones_(conv.conv.weight)
    x = torch.tensor([[[[0.0, 1.0]]]])
    last = torch.tensor([0.0, 1.0]).softmax(0)[1]  # similarities to the second cell: 0 and 1
    torch.testing.assert_close(layer(x).flatten(), torch.stack([torch.tensor(0.5), 1 + last]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ContextBlock(4, ratio=1, pooling_type="max"), "pooling_type"),  # type: ignore[arg-type]
        (lambda: ContextBlock(4, ratio=1, fusion_types=()), "fusion_types"),
        (lambda: GeneralizedAttention(4, attention_type="0000"), "attention_type"),
        (lambda: GeneralizedAttention(4, attention_type="12"), "attention_type"),
    ],
)
def test_wrong_arguments_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_plugins_are_built_from_specs() -> None:
    spec = Spec.of(
        "BlockPlugin",
        layer=Spec.of("ContextBlock", ratio=0.25),
        position="after_conv3",
        stages=(False, True),
        postfix=2,
    )
    plugin = build(spec, (LAYERS,))
    assert plugin.name == "context_block2"
    assert (plugin.is_in(0), plugin.is_in(1)) == (False, True)
    assert isinstance(plugin.layer.make(16), ContextBlock)
    attention = build(Spec.of("GeneralizedAttention", num_heads=2, attention_type="0010"), (LAYERS,))
    assert attention.name == "gen_attention_block"
    assert attention.make(4).key_alone
