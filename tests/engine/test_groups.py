"""Parameter groups: one test a rule."""

from typing import Any

import pytest
import torch
from torch import nn

from fastdet.engine.groups import parameter_groups
from fastdet.utils.errors import ConfigError


class Deformable(nn.Module):
    """Named as deformable convolutions name their offset branch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 2, 3, 3))
        self.conv_offset = nn.Conv2d(2, 18, 3)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.depthwise = nn.Conv2d(2, 2, 3, groups=2)
        self.bn = nn.BatchNorm2d(2)
        self.dcn = Deformable()
        self.scale = nn.Parameter(torch.ones(1))


def options(rules: dict[str, Any], model: nn.Module | None = None, **base: Any) -> dict[str, dict[str, Any]]:
    """Each parameter's own settings by name."""
    base = {"lr": 1.0, "weight_decay": 0.1, **base}
    found = {}
    for group in parameter_groups(model or Net(), rules, **base):
        for name, _ in group["params"]:
            found[name] = {key: value for key, value in group.items() if key != "params"}
    return found


def names_with(found: dict[str, dict[str, Any]], settings: dict[str, Any]) -> set[str]:
    return {name for name, value in found.items() if value == pytest.approx(settings)}


def test_without_rules_all_parameters_share_a_group() -> None:
    groups = parameter_groups(Net(), {}, lr=1.0, weight_decay=0.1)
    assert len(groups) == 1
    assert [name for name, _ in groups[0]["params"]][:2] == ["scale", "conv.weight"]
    assert len(groups[0]["params"]) == len(list(Net().parameters()))


def test_bias_lr_leaves_out_norms_and_offset_branches() -> None:
    assert names_with(options({"bias_lr_mult": 2.0}), {"lr": 2.0}) == {"conv.bias", "depthwise.bias"}


def test_bias_decay_leaves_out_offset_branches_and_norms_that_have_their_own_rule() -> None:
    found = names_with(options({"bias_decay_mult": 0.0}), {"weight_decay": 0.0})
    assert found == {"conv.bias", "depthwise.bias", "bn.bias"}
    found = names_with(options({"bias_decay_mult": 0.0, "norm_decay_mult": 1.0}), {"weight_decay": 0.0})
    assert found == {"conv.bias", "depthwise.bias"}


def test_norm_decay_takes_weight_and_bias_of_norms() -> None:
    assert names_with(options({"norm_decay_mult": 0.0}), {"weight_decay": 0.0}) == {"bn.weight", "bn.bias"}


def test_depthwise_decay_takes_weight_and_bias() -> None:
    found = names_with(options({"dwconv_decay_mult": 0.5}), {"weight_decay": 0.05})
    assert found == {"depthwise.weight", "depthwise.bias"}


def test_bias_decay_goes_before_depthwise_decay() -> None:
    found = options({"dwconv_decay_mult": 0.5, "bias_decay_mult": 0.0})
    assert names_with(found, {"weight_decay": 0.05}) == {"depthwise.weight"}
    assert found["depthwise.bias"] == {"weight_decay": 0.0}


def test_flat_decay_takes_other_one_dimensional_parameters() -> None:
    found = names_with(options({"flat_decay_mult": 0.0}), {"weight_decay": 0.0})
    assert found == {"scale", "conv.bias", "depthwise.bias", "bn.weight", "bn.bias"}


def test_offset_lr_takes_weight_and_bias_of_the_offset_branch() -> None:
    found = names_with(options({"dcn_offset_lr_mult": 0.1}), {"lr": 0.1})
    assert found == {"dcn.conv_offset.weight", "dcn.conv_offset.bias"}


def test_the_longest_custom_key_wins_and_switches_the_other_rules_off() -> None:
    rules = {
        "norm_decay_mult": 0.0,
        "custom_keys": {"d": {"lr_mult": 9.0}, "dcn": {"lr_mult": 0.1, "decay_mult": 0.5}, "bn": {"decay_mult": 1.0}},
    }
    found = options(rules)
    assert found["dcn.weight"] == pytest.approx({"lr": 0.1, "weight_decay": 0.05})
    assert found["depthwise.bias"] == pytest.approx({"lr": 9.0, "weight_decay": 0.1})
    assert found["bn.weight"] == pytest.approx({"lr": 1.0, "weight_decay": 0.1})
    assert found["conv.weight"] == {}


def test_of_equally_long_custom_keys_the_alphabetically_first_wins() -> None:
    found = options({"custom_keys": {"onv": {"lr_mult": 3.0}, "con": {"lr_mult": 2.0}}})
    assert found["conv.weight"]["lr"] == 2.0


def test_further_options_of_a_custom_key_become_the_groups() -> None:
    assert options({"custom_keys": {"bn": {"momentum": 0.5}}})["bn.bias"]["momentum"] == 0.5


def test_frozen_parameters_are_left_out() -> None:
    model = Net()
    model.conv.requires_grad_(False)
    assert "conv.weight" not in options({"norm_decay_mult": 0.0}, model)


def test_shared_parameters_need_bypass_duplicate() -> None:
    model = nn.ModuleDict({"a": nn.Linear(2, 2)})
    model["b"] = nn.Linear(2, 2)
    model["b"].weight = model["a"].weight
    with pytest.raises(ConfigError, match="bypass_duplicate"):
        options({"bias_lr_mult": 1.0}, model)
    assert set(options({"bypass_duplicate": True}, model)) == {"a.weight", "a.bias", "b.bias"}


def test_a_multiplier_without_a_base_is_refused() -> None:
    with pytest.raises(ConfigError, match="weight_decay"):
        options({"norm_decay_mult": 0.0}, weight_decay=None)
    with pytest.raises(ConfigError, match="weight_decay"):
        options({"custom_keys": {"bn": {"decay_mult": 0.0}}}, weight_decay=None)
    with pytest.raises(ConfigError, match="lr"):
        options({"bias_lr_mult": 2.0}, lr=None)


def test_an_unknown_rule_names_its_neighbours() -> None:
    with pytest.raises(ConfigError, match="norm_decay_mult"):
        options({"norm_decay": 0.0})
