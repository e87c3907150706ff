"""A NaN stops the run before it reaches a weight, and leaves what is needed to find it."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch

from fastdet.engine import Diverged, Hook, Runner, TrainState
from fastdet.engine.guard import can_skip_on_device, save_batch
from fastdet.registry import FrozenDict, Spec
from fastdet.structures import MaskBuffer, Proposals
from tests.engine.fakes import FakeDetector, FakeLoader, assert_same_bits, make_detector, make_experiment


class Snapshots(Hook):
    """The parameters after each step."""

    def __init__(self) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []

    def after_step(self, state: TrainState) -> None:
        self.weights.append({name: value.detach().clone() for name, value in state.model.named_parameters()})


def diverge(
    work_dir: Path, *, deferred: bool = False, detector: Any = None, **options: Any
) -> tuple[str, Snapshots, Any]:
    """The message of a run whose second epoch's third batch is NaN, the weights after each step, and at the end."""
    snapshots = Snapshots()
    detector = detector or make_detector()
    runner = Runner(
        make_experiment(**options), detector=detector, train_loader=FakeLoader(bad=(1, 2)), work_dir=work_dir,
        hooks=[snapshots], stream=io.StringIO(),
    )  # fmt: skip
    runner.guard.deferred = deferred
    with pytest.raises(Diverged) as error:
        runner.train()
    return str(error.value), snapshots, dict(detector.named_parameters())


def test_the_message_names_step_images_rate_norm_and_fix(tmp_path: Path) -> None:
    message, _, _ = diverge(tmp_path, base_batch_size=16)
    assert "the loss became NaN at epoch 2, iteration 3 (step 8, rank 0): loss = nan" in message
    assert "images 120 (1_2_0.jpg), 121 (1_2_1.jpg); the batch is saved to" in message
    assert "lr 0.05 with batch 2; grad_norm was 0." in message
    assert "at step 7; the bad step was not applied" in message
    assert "pass --auto-scale-lr for 0.00625" in message
    assert "clip_grad=dict(max_norm=35)" in message


def test_the_bad_step_changes_no_weight(tmp_path: Path) -> None:
    _, snapshots, final = diverge(tmp_path)
    assert len(snapshots.weights) == 7
    assert_same_bits(snapshots.weights[-1], {name: value.detach() for name, value in final.items()})


@pytest.mark.parametrize(
    "optimizer",
    [
        Spec.of("SGD", lr=0.05, momentum=0.9, weight_decay=0.1, fused=True),
        Spec.of("AdamW", lr=0.05, weight_decay=0.1, fused=True),
    ],
)
def test_read_one_step_late_the_bad_step_is_skipped_by_the_optimizer_itself(tmp_path: Path, optimizer: Spec) -> None:
    # The step after the bad one is computed, but the bad ballot is read before its update.
    message, snapshots, final = diverge(tmp_path, deferred=True, optimizer=optimizer)
    assert "at epoch 2, iteration 3 (step 8, rank 0)" in message
    assert "120 (1_2_0.jpg)" in message
    assert len(snapshots.weights) == 8
    assert_same_bits(snapshots.weights[6], snapshots.weights[7])
    assert_same_bits(snapshots.weights[7], {name: value.detach() for name, value in final.items()})


def test_a_deferred_run_without_trouble_equals_one_that_reads_at_once(tmp_path: Path) -> None:
    final = []
    for deferred in (False, True):
        runner = Runner(
            make_experiment(optimizer=Spec.of("SGD", lr=0.05, momentum=0.9, fused=True)), detector=make_detector(),
            train_loader=FakeLoader(), work_dir=tmp_path / str(deferred), stream=io.StringIO(),
        )  # fmt: skip
        runner.guard.deferred = deferred
        final.append(runner.train().model.state_dict())
    assert_same_bits(dict(final[0]), dict(final[1]))


def test_a_bad_last_step_is_found_before_it_is_saved(tmp_path: Path) -> None:
    runner = Runner(
        make_experiment(length=1, optimizer=Spec.of("SGD", lr=0.05, fused=True)), detector=make_detector(),
        train_loader=FakeLoader(bad=(0, 4)), work_dir=tmp_path, stream=io.StringIO(),
    )  # fmt: skip
    runner.guard.deferred = True
    with pytest.raises(Diverged, match="step 5"):
        runner.train()
    assert not list(tmp_path.glob("*.pth"))


def test_with_fp16_a_bad_loss_is_found_and_overflowing_gradients_are_not_an_error(tmp_path: Path) -> None:
    message, snapshots, final = diverge(tmp_path, optimizer_options={"amp": "fp16", "initial_loss_scale": 2.0**19})
    assert "step 8" in message
    # Gradients near 0.3 at a scale of 2**19 exceed float16's 65504: the first steps are skipped, then training goes on.
    assert torch.equal(snapshots.weights[0]["head.weight"], make_detector().head.weight)
    assert not torch.equal(snapshots.weights[6]["head.weight"], snapshots.weights[0]["head.weight"])
    assert_same_bits(snapshots.weights[-1], {name: value.detach() for name, value in final.items()})


def test_while_accumulating_the_bad_batch_itself_is_named(tmp_path: Path) -> None:
    message, _, final = diverge(tmp_path, optimizer_options={"accumulate": 3})
    assert "step 8" in message
    assert all(torch.isfinite(value).all() for value in final.values())


class BadGradients(FakeDetector):
    """A finite loss whose gradient is infinite: the root of zero."""

    def loss(self, batch: Any, generator: Any = None) -> dict[str, torch.Tensor]:
        zero = (self.head.weight * 0).sum()
        return {**super().loss(batch, generator), "loss_root": zero.sqrt()}


def test_infinite_gradients_of_a_finite_loss_are_found(tmp_path: Path) -> None:
    message, snapshots, _ = diverge(tmp_path, detector=BadGradients())
    assert "the loss is finite, but its gradients became NaN or infinite at epoch 1, iteration 1" in message
    assert "grad_norm = nan" in message
    assert snapshots.weights == []


def test_a_clipped_run_is_not_told_to_clip(tmp_path: Path) -> None:
    message, _, _ = diverge(tmp_path, optimizer_options={"clip": FrozenDict(max_norm=35)})
    assert "clip_grad" not in message
    assert "warm-up" in message


def test_the_saved_batch_is_plain_and_complete(tmp_path: Path) -> None:
    diverge(tmp_path)
    saved = torch.load(tmp_path / "nan_batch.pt", weights_only=True)
    assert saved["pixels"].isnan().all()
    assert [meta["image_id"] for meta in saved["metas"]] == [120, 121]
    assert set(saved["targets"]) == {"boxes", "labels", "count", "ignore_boxes", "ignore_count"}


def test_masks_and_missing_targets_are_saved_too(tmp_path: Path) -> None:
    batch = FakeLoader().make(0, 0)
    assert batch.targets is not None
    masks = MaskBuffer(torch.ones(4, dtype=torch.uint8), torch.zeros(16, dtype=torch.int64), torch.zeros(16, 4))
    save_batch(batch._replace(targets=batch.targets._replace(masks=masks)), tmp_path / "a.pt")
    assert torch.load(tmp_path / "a.pt", weights_only=True)["masks"]["bits"].sum() == 4
    save_batch(batch._replace(targets=None), tmp_path / "b.pt")
    assert "targets" not in torch.load(tmp_path / "b.pt", weights_only=True)
    maps = torch.full((2, 4, 4), 7, dtype=torch.uint8)
    proposals = Proposals(torch.ones(2, 8, 4), torch.tensor([8, 3]))
    whole = batch._replace(targets=batch.targets._replace(semantic=maps), proposals=proposals)
    save_batch(whole, tmp_path / "c.pt")
    found = torch.load(tmp_path / "c.pt", weights_only=True)
    assert (found["targets"]["semantic"] == 7).all()
    assert found["proposals"]["count"].tolist() == [8, 3]


def test_only_fused_optimizers_can_skip_on_the_device() -> None:
    weights = [torch.nn.Parameter(torch.zeros(1))]
    assert can_skip_on_device(torch.optim.SGD(weights, lr=0.1, fused=True))
    assert not can_skip_on_device(torch.optim.SGD(weights, lr=0.1))
    assert not can_skip_on_device(torch.optim.RMSprop(weights, lr=0.1))
