"""A loss that becomes NaN stops the run, says where and why, and leaves the weights as they were."""

from pathlib import Path

import torch

from fastdet.engine.hooks import Hook
from fastdet.engine.state import TrainState
from fastdet.registry import HOOKS
from tests.integration.commands import fastdet, write_config

HOT = "optim_wrapper = dict(optimizer=dict(lr=1e12))\nparam_scheduler = []\n"
BEFORE: dict[str, torch.Tensor] = {}
STATES: list[TrainState] = []


@HOOKS.register()
class KeepWeights(Hook):
    """Copies the weights after each finished step."""

    def before_train(self, state: TrainState) -> None:
        STATES[:] = [state]

    def after_step(self, state: TrainState) -> None:
        BEFORE.update({name: value.clone() for name, value in state.model.named_parameters()})


def test_the_message_names_step_rate_and_images_and_the_batch_can_be_loaded(tmp_path: Path) -> None:
    config = write_config(tmp_path, HOT + "custom_hooks = [dict(type='KeepWeights')]\n")
    ended = fastdet("train", config, "--work-dir", tmp_path / "w")
    assert ended.code == 1
    assert "Traceback" not in ended.err
    assert "the loss became NaN at epoch 1, iteration 2 (step 2" in ended.err
    assert "lr 1e+12 with batch 4" in ended.err
    assert "the bad step was not applied" in ended.err
    assert "try a smaller lr" in ended.err
    batch = torch.load(tmp_path / "w" / "nan_batch.pt", weights_only=True)
    assert batch["pixels"].shape[0] == 4
    assert set(batch["targets"]) >= {"boxes", "labels", "count"}
    for meta in batch["metas"]:
        assert f"{meta['image_id']} ({Path(meta['path']).name})" in ended.err
    after = dict(STATES[0].model.named_parameters())
    assert BEFORE.keys() == after.keys()
    for name, value in after.items():
        assert torch.equal(value, BEFORE[name]), name
    assert not (tmp_path / "w" / "epoch_1.pth").exists()
