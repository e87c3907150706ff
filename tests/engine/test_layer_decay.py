"""Learning rates that fall from layer to layer."""

import pytest
import torch
from torch import nn

from fastdet.engine.groups import parameter_groups
from fastdet.engine.layer_decay import layer_number, stage_number
from fastdet.utils.errors import ConfigError, UnsupportedConfig

RULES = {"constructor": "LearningRateDecayOptimizerConstructor", "num_layers": 6, "decay_rate": 0.5}


@pytest.mark.parametrize(
    ("name", "layer", "stage"),
    [
        ("backbone.downsample_layers.0.0.weight", 0, 0),
        ("backbone.downsample_layers.1.1.weight", 2, 0),
        ("backbone.downsample_layers.3.1.weight", 6, 0),
        ("backbone.stages.0.2.gamma", 1, 1),
        ("backbone.stages.1.0.norm.bias", 2, 2),
        ("backbone.stages.2.0.norm.bias", 3, 3),
        ("backbone.stages.2.8.norm.bias", 5, 3),
        ("backbone.stages.3.1.norm.bias", 6, 4),
        ("backbone.norm0.weight", 7, 7),
        ("neck.lateral_convs.0.conv.weight", 7, 7),
    ],
)
def test_layers_and_stages_have_numbers(name: str, layer: int, stage: int) -> None:
    assert layer_number(name, 6) == layer
    assert stage_number(name, 6) == stage


class ConvNeXt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.downsample_layers = nn.ModuleList([nn.Sequential(nn.Conv2d(3, 2, 1))])
        self.stages = nn.ModuleList([nn.Sequential(nn.Conv2d(2, 2, 1))])
        self.stages[0][0].bias.requires_grad = False


class Net(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(2, 2)


def test_rates_fall_from_the_head_to_the_stem() -> None:
    groups = parameter_groups(Net(ConvNeXt()), RULES, lr=1.0, weight_decay=0.1)
    found = {name: (g["lr"], g["weight_decay"]) for g in groups for name, _ in g["params"]}
    assert found == {
        "backbone.downsample_layers.0.0.weight": (0.5**7, 0.1),
        "backbone.downsample_layers.0.0.bias": (0.5**7, 0.0),
        "backbone.stages.0.0.weight": (0.5**6, 0.1),
        "head.weight": (1.0, 0.1),
        "head.bias": (1.0, 0.0),
    }
    torch.optim.AdamW(groups, lr=1.0)


def test_what_cannot_be_followed_says_so() -> None:
    with pytest.raises(UnsupportedConfig, match="not those of a Identity"):
        parameter_groups(Net(nn.Identity()), RULES, lr=1.0, weight_decay=0.1)
    with pytest.raises(UnsupportedConfig, match="the optimizer constructor 'Mine' is not supported"):
        parameter_groups(Net(ConvNeXt()), {"constructor": "Mine"}, lr=1.0, weight_decay=0.1)
    with pytest.raises(ConfigError, match="unknown rule 'decay_rat'"):
        parameter_groups(Net(ConvNeXt()), {**RULES, "decay_rat": 1}, lr=1.0, weight_decay=0.1)
    with pytest.raises(ConfigError, match="needs num_layers"):
        parameter_groups(
            Net(ConvNeXt()), {"constructor": RULES["constructor"], "decay_rate": 1}, lr=1.0, weight_decay=0.1
        )
