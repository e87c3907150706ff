"""Optimizer, learning rate, scaler, clipping and accumulation, one behaviour a test."""

import pytest
import torch
from torch import nn

from fastdet.config.schema import Optimizer
from fastdet.engine.optim import Accumulation, Clip, Scaler, build_optimizer, choose_learning_rate
from fastdet.registry import OPTIMIZERS, FrozenDict, Spec
from fastdet.utils.errors import ConfigError, UnsupportedConfig
from tests.engine.fakes import make_experiment


def build(spec: Spec, **options: object) -> torch.optim.Optimizer:
    section = Optimizer(algorithm=spec, groups=FrozenDict(options.pop("groups", {})))  # type: ignore[call-overload]
    return build_optimizer(section, nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam"])
def test_optimizers_of_torch_are_known_by_name(name: str) -> None:
    optimizer = build(Spec.of(name, lr=0.01, weight_decay=0.1))
    assert type(optimizer) is getattr(torch.optim, name)
    assert len(optimizer.param_groups[0]["params"]) == 4


def test_registered_optimizers_are_found_first() -> None:
    class Mine(torch.optim.SGD):
        pass

    OPTIMIZERS.register("TestOnlySGD")(Mine)
    assert type(build(Spec.of("TestOnlySGD", lr=0.01))) is Mine


def test_tuples_and_all_arguments_arrive() -> None:
    optimizer = build(Spec.of("AdamW", lr=1e-4, betas=[0.8, 0.9], weight_decay=0.05))
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.9)
    assert optimizer.param_groups[0]["initial_momentum"] == 0.8


def test_the_learning_rate_factor_holds_for_every_group() -> None:
    optimizer = build(Spec.of("SGD", lr=0.02, weight_decay=0.1), groups={"bias_lr_mult": 2.0}, factor=0.25)
    assert sorted(group["lr"] for group in optimizer.param_groups) == [0.005, 0.01]
    assert [group["initial_lr"] for group in optimizer.param_groups] == [g["lr"] for g in optimizer.param_groups]


def test_an_unknown_optimizer_names_its_neighbours() -> None:
    with pytest.raises(UnsupportedConfig, match="AdamW"):
        build(Spec.of("AdmaW", lr=0.1))
    with pytest.raises(UnsupportedConfig, match="LBFGS"):
        build(Spec.of("LBFGS", lr=0.1))


def test_a_wrong_argument_is_named() -> None:
    with pytest.raises(ConfigError, match="momentum"):
        build(Spec.of("SGD", lr=0.1, momentun=0.9))
    with pytest.raises(ConfigError, match="Invalid learning rate"):
        build(Spec.of("SGD", lr=-0.1))


def test_the_sentence_on_the_learning_rate_says_what_was_done_and_why() -> None:
    def choose(world_size: int = 1, **runtime: object) -> tuple[float, str]:
        experiment = make_experiment(optimizer=Spec.of("SGD", lr=0.02), batch_size=4, **runtime)
        return choose_learning_rate(experiment, world_size)

    assert choose(base_batch_size=16, auto_scale_lr=True) == (
        0.25,
        "lr 0.02 is for batch 16; yours is 4 -> using 0.005 because --auto-scale-lr",
    )
    assert choose(base_batch_size=16) == (
        1.0,
        "lr 0.02 is for batch 16; yours is 4 -> not scaled: pass --auto-scale-lr for 0.005",
    )
    assert choose(base_batch_size=16, world_size=4) == (1.0, "lr 0.02 is for batch 16, and so is yours")
    assert choose()[1] == "lr 0.02 as configured: the config names no base batch size; yours is 4"


def test_accumulation_counts_in_the_effective_batch() -> None:
    experiment = make_experiment(
        optimizer=Spec.of("SGD", lr=0.02), batch_size=4, base_batch_size=16, optimizer_options={"accumulate": 4}
    )
    assert choose_learning_rate(experiment, 1).sentence == "lr 0.02 is for batch 16, and so is yours"


def test_clipping_by_norm_equals_torchs() -> None:
    ours = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]
    theirs = [nn.Parameter(torch.zeros_like(g)) for g in ours]
    for parameter, gradient in zip(theirs, ours, strict=True):
        parameter.grad = gradient.clone()
    norm = Clip({"max_norm": 1.0, "norm_type": 2})(ours)
    assert norm.item() == nn.utils.clip_grad_norm_(theirs, 1.0, 2.0).item() == 5.0
    assert all(torch.equal(g, p.grad) for g, p in zip(ours, theirs, strict=True))  # type: ignore[arg-type]


def test_clipping_by_norm_leaves_small_gradients() -> None:
    gradients = [torch.tensor([3.0, 4.0])]
    Clip({"max_norm": 35})(gradients)
    assert gradients[0].tolist() == [3.0, 4.0]


def test_the_norm_type_is_used() -> None:
    assert Clip({"max_norm": 1.0, "norm_type": 1})([torch.tensor([3.0, -4.0])]).item() == 7.0
    assert Clip({"max_norm": 1.0, "norm_type": float("inf")})([torch.tensor([3.0, -4.0])]).item() == 4.0


def test_clipping_by_value_cuts_each_element() -> None:
    gradients = [torch.tensor([3.0, -0.5, -4.0])]
    assert Clip({"type": "value", "clip_value": 1.0})(gradients).item() == pytest.approx(25.25**0.5)
    assert gradients[0].tolist() == [1.0, -0.5, -1.0]


def test_without_options_gradients_are_only_measured() -> None:
    gradients = [torch.tensor([3.0, 4.0])]
    clip = Clip(None)
    assert (clip(gradients).item(), gradients[0].tolist(), clip.active) == (5.0, [3.0, 4.0], False)


@pytest.mark.parametrize("options", [{"max_nrom": 1}, {"norm_type": 2}, {"type": "mean", "max_norm": 1}])
def test_wrong_clip_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="clip_grad"):
        Clip(options)


def test_accumulation_updates_every_count_and_at_the_end() -> None:
    accumulation = Accumulation(3, max_steps=8)
    assert [accumulation.updates(step) for step in range(8)] == [False, False, True] * 2 + [False, True]
    assert [accumulation.divisor(step) for step in range(8)] == [3] * 6 + [2] * 2
    assert [accumulation.is_clean(step) for step in range(9)] == [True, False, False] * 2 + [True, False, True]


def test_a_fixed_loss_scale_stays_and_a_dynamic_one_shrinks_on_overflow() -> None:
    for loss_scale, expected in ((128.0, 128.0), ("dynamic", 2.0**15)):
        weight = nn.Parameter(torch.ones(1))
        optimizer = torch.optim.SGD([weight], lr=0.5)
        section = Optimizer(algorithm=Spec.of("SGD", lr=0.5), amp="fp16", loss_scale=loss_scale)  # type: ignore[arg-type]
        scaler = Scaler(section, torch.device("cpu"))
        scaler.backward(weight.sum() * torch.inf)
        scaler.unscale(optimizer)
        scaler.step(optimizer)
        assert weight.item() == 1.0
        assert scaler.state_dict()["scale"] == expected


def test_the_fp16_scale_leaves_finite_updates_as_they_are() -> None:
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    scaler = Scaler(Optimizer(algorithm=Spec.of("SGD", lr=0.5), amp="fp16"), torch.device("cpu"))
    scaler.backward(weight.sum() * 0.25)
    scaler.unscale(optimizer)
    scaler.step(optimizer)
    assert weight.item() == 0.875
