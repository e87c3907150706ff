"""A whole training on the fakes: files, rows, lines, and what each option does."""

import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from fastdet.config.schema import Checkpoints, Ema
from fastdet.engine import Hook, Runner, TrainState
from fastdet.registry import HOOKS, FrozenDict, Spec
from fastdet.utils.errors import ConfigError, UnsupportedConfig
from tests.engine.fakes import FakeLoader, assert_same_bits, make_detector, make_experiment, weights_of
from tests.engine.plain import PlainDetector, WholeLoader, half_of


def train(work_dir: Path, experiment: Any = None, **options: Any) -> tuple[TrainState, str]:
    """The final state and what was printed."""
    stream = io.StringIO()
    arguments = {"detector": make_detector(), "train_loader": FakeLoader(), "stream": stream, **options}
    state = Runner(experiment or make_experiment(), work_dir=work_dir, **arguments).train()
    return state, stream.getvalue()


def rows_of(work_dir: Path) -> list[dict[str, float]]:
    (path,) = work_dir.glob("*/vis_data/scalars.json")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_work_dir_has_the_layout_that_tools_know(tmp_path: Path) -> None:
    experiment = make_experiment(checkpoints=Checkpoints(save_best="auto"))
    train(
        tmp_path, experiment, evaluate=lambda epoch: {"coco/bbox_mAP": epoch / 10}, config_text="a = 1\n",
        environment={"gpu": "none"},
    )  # fmt: skip
    (run,) = tmp_path.glob("2*_*[0-9]")
    run_id = run.name
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if not path.is_dir())
    assert found == sorted(
        [
            f"{run_id}/{run_id}.log",
            f"{run_id}/vis_data/{run_id}.json",
            f"{run_id}/vis_data/scalars.json",
            f"{run_id}/vis_data/config.py",
            f"{run_id}.py",
            "env.json",
            "epoch_1.pth",
            "epoch_2.pth",
            "epoch_3.pth",
            "best_coco_bbox_mAP_epoch_3.pth",
            "last_checkpoint",
            "latest.pth",
        ]
    )
    assert (tmp_path / "last_checkpoint").read_text() == str(tmp_path / "epoch_3.pth")
    assert (tmp_path / "latest.pth").resolve() == tmp_path / "epoch_3.pth"
    assert (tmp_path / f"{run_id}.py").read_text() == "a = 1\n"
    assert json.loads((tmp_path / "env.json").read_text())["gpu"] == "none"


def test_rows_have_mmengines_keys_in_mmengines_order(tmp_path: Path) -> None:
    experiment = make_experiment(optimizer_options={"clip": FrozenDict(max_norm=35)})
    loader = FakeLoader()
    train(
        tmp_path, experiment, train_loader=loader, val_loader=FakeLoader(4),
        evaluate=lambda epoch: {"time": 0.2, "coco/bbox_mAP": 0.5, "data_time": 0.1},
    )  # fmt: skip
    rows = rows_of(tmp_path)
    assert list(rows[0]) == [
        "lr", "data_time", "grad_norm", "loss", "loss_bbox", "loss_cls", "acc", "time", "epoch", "iter", "step",
    ]  # fmt: skip
    assert [(row.get("epoch"), row["step"]) for row in rows[:4]] == [(1, 2), (1, 4), (1, 5), (None, 1)]
    assert list(rows[3].items()) == [("coco/bbox_mAP", 0.5), ("data_time", 0.1), ("time", 0.2), ("step", 1)]
    (log,) = tmp_path.glob("*/*.log")
    lines = log.read_text()
    assert re.search(
        r"- INFO - Epoch\(train\) \[2\]\[4/5\]  lr: 5\.0000e-02  eta: 0:00:0\d  time: \d\.\d{4}  "
        r"data_time: \d\.\d{4}  grad_norm: \d+\.\d{4}  loss: \d\.\d{4}  loss_bbox: \d\.\d{4}  loss_cls: \d\.\d{4}  "
        r"acc: \d\.\d{4}\n",
        lines,
    )
    assert "Epoch(val) [1][4/4]    coco/bbox_mAP: 0.5000  data_time: 0.1000  time: 0.2000" in lines


def test_a_run_by_iterations_counts_and_names_iterations(tmp_path: Path) -> None:
    experiment = make_experiment(
        unit="iter", length=7, val_interval=3, checkpoints=Checkpoints(unit="iter", interval=4)
    )
    seen: list[int] = []
    state, printed = train(tmp_path, experiment, evaluate=lambda epoch: {"mAP": float(seen.append(epoch) or 1)})
    assert (state.step, state.epoch, state.batch) == (7, 1, 2)
    assert sorted(path.name for path in tmp_path.glob("iter_*.pth")) == ["iter_4.pth", "iter_7.pth"]
    assert seen == [0, 1, 1]
    rows = rows_of(tmp_path)
    assert [row["step"] for row in rows if "mAP" in row] == [3, 6, 7]
    assert "epoch" not in rows[0]
    assert "Iter(train) [2/7]  lr:" in printed
    assert "Iter(val) [0/0]    mAP: 1.0000" in printed


def test_several_groups_log_the_base_rate_first(tmp_path: Path) -> None:
    experiment = make_experiment(length=1, optimizer_options={"groups": FrozenDict(bias_lr_mult=2.0)})
    train(tmp_path, experiment)
    assert list(rows_of(tmp_path)[0])[:2] == ["base_lr", "lr"]


def test_losses_are_means_over_the_interval_and_accuracies_the_last_value(tmp_path: Path) -> None:
    class Recorder(Hook):
        def __init__(self) -> None:
            self.values: list[dict[str, float]] = []

        def after_step(self, state: TrainState) -> None:
            self.values.append({name: float(value) for name, value in state.log_values.items()})

    recorder = Recorder()
    train(tmp_path, make_experiment(length=1, log_interval=4), hooks=[recorder])
    first, last = rows_of(tmp_path)
    assert first["loss"] == pytest.approx(sum(v["loss"] for v in recorder.values[:4]) / 4)
    assert last["loss_cls"] == pytest.approx(sum(v["loss_cls"] for v in recorder.values[1:5]) / 4)
    assert first["acc"] == recorder.values[3]["acc"]


def test_only_the_newest_checkpoints_and_the_best_are_kept(tmp_path: Path) -> None:
    scores = [0.1, 0.4, 0.3, 0.2]
    experiment = make_experiment(length=4, checkpoints=Checkpoints(keep=2, save_best="mAP"))
    train(tmp_path, experiment, evaluate=lambda epoch: {"other": 0.0, "mAP": scores[epoch - 1]})
    assert sorted(path.name for path in tmp_path.glob("*_*.pth")) == [
        "best_mAP_epoch_2.pth",
        "epoch_3.pth",
        "epoch_4.pth",
    ]
    best = torch.load(tmp_path / "best_mAP_epoch_2.pth", weights_only=True)
    assert best["meta"]["epoch"] == 2
    assert "optimizer" not in best


def test_less_is_better_for_losses_and_where_the_rule_says_so(tmp_path: Path) -> None:
    experiment = make_experiment(checkpoints=Checkpoints(save_best="val_loss"))
    train(tmp_path, experiment, evaluate=lambda epoch: {"val_loss": [0.5, 0.2, 0.3][epoch - 1]})
    assert (tmp_path / "best_val_loss_epoch_2.pth").is_file()
    experiment = make_experiment(checkpoints=Checkpoints(save_best="error", rule="less"))
    train(tmp_path / "b", experiment, evaluate=lambda epoch: {"error": float(epoch)})
    assert (tmp_path / "b" / "best_error_epoch_1.pth").is_file()


def test_a_best_metric_that_nobody_gives_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bbox_mAP"):
        train(
            tmp_path,
            make_experiment(checkpoints=Checkpoints(save_best="segm_mAP")),
            evaluate=lambda epoch: {"bbox_mAP": 0.5},
        )


def test_intervals_decide_when_to_save_and_validate_and_the_end_always_does(tmp_path: Path) -> None:
    seen: list[int] = []
    experiment = make_experiment(length=5, val_interval=2, checkpoints=Checkpoints(interval=3))
    train(tmp_path, experiment, evaluate=lambda epoch: {"mAP": float(seen.append(epoch) or 0)})
    assert seen == [2, 4, 5]
    assert sorted(path.name for path in tmp_path.glob("epoch_*.pth")) == ["epoch_3.pth", "epoch_5.pth"]


def test_the_validation_loss_is_logged_beside_the_metrics(tmp_path: Path) -> None:
    state, _ = train(
        tmp_path, make_experiment(length=1, val_loss=True), val_loader=FakeLoader(3, shard=1),
        evaluate=lambda epoch: {"mAP": 0.5},
    )  # fmt: skip
    row = rows_of(tmp_path)[-1]
    assert list(row) == ["mAP", "val_loss", "val_loss_bbox", "val_loss_cls", "val_acc", "time", "step"]
    assert row["val_loss"] == pytest.approx(row["val_loss_bbox"] + row["val_loss_cls"])
    assert state.model.training


def test_validation_changes_nothing_that_trains(tmp_path: Path) -> None:
    def draw(epoch: int) -> dict[str, float]:
        return {"mAP": torch.rand(()).item()}

    plain, _ = train(tmp_path / "a")
    validated, _ = train(
        tmp_path / "b", make_experiment(val_loss=True), evaluate=draw, val_loader=FakeLoader(2, shard=1)
    )
    assert_same_bits(weights_of(plain.model), weights_of(validated.model))


def test_the_same_seed_repeats_a_run_and_another_does_not(tmp_path: Path) -> None:
    first, _ = train(tmp_path / "a")
    second, _ = train(tmp_path / "b")
    third, _ = train(tmp_path / "c", make_experiment(seed=4))
    assert_same_bits(weights_of(first.model), weights_of(second.model))
    assert not torch.equal(first.model.head.weight, third.model.head.weight)  # type: ignore[union-attr, arg-type]


def test_two_trainings_in_one_process_do_not_disturb_each_other(tmp_path: Path) -> None:
    class Nested(Hook):
        def after_epoch(self, state: TrainState) -> None:
            if state.epoch == 1:
                train(tmp_path / "inner", make_experiment(length=1, seed=99))

    alone, _ = train(tmp_path / "a")
    nested, _ = train(tmp_path / "b", hooks=[Nested()])
    assert_same_bits(weights_of(alone.model), weights_of(nested.model))


def test_evaluation_and_checkpoints_use_the_averaged_weights(tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []
    detector = make_detector()

    def look(epoch: int) -> dict[str, float]:
        assert not detector.training
        seen.append(detector.head.weight.detach().clone())
        return {"mAP": 0.5}

    experiment = make_experiment(length=1, ema=Ema(momentum=0.1))
    state, _ = train(tmp_path, experiment, detector=detector, evaluate=look)
    saved = torch.load(tmp_path / "epoch_1.pth", weights_only=True)
    assert state.ema is not None
    assert torch.equal(seen[0], state.ema.average["head.weight"])
    assert torch.equal(seen[0], saved["state_dict"]["head.weight"])
    assert torch.equal(detector.head.weight, saved["ema_state_dict"]["module.head.weight"])
    assert not torch.equal(seen[0], detector.head.weight)


def test_accumulated_gradients_equal_a_batch_of_all_images(tmp_path: Path) -> None:
    # Without batch norm, dropout and the samplers' draws, two half batches are one batch.
    class Halves(FakeLoader):
        def make(self, epoch: int, index: int) -> Any:
            return half_of(WholeLoader().make(epoch, index // 2), index % 2)

    def result(loader: FakeLoader, accumulate: int) -> torch.Tensor:
        detector = PlainDetector()
        experiment = make_experiment(length=2, optimizer_options={"accumulate": accumulate})
        train(tmp_path / str(accumulate), experiment, detector=detector, train_loader=loader)
        return detector.layer.weight.detach()

    torch.testing.assert_close(result(Halves(10), 2), result(WholeLoader(), 1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{"amp": "bf16"}, {"amp": "fp16", "loss_scale": 8.0}])
def test_mixed_precision_trains_to_nearly_the_same_weights(tmp_path: Path, options: dict[str, Any]) -> None:
    plain, _ = train(tmp_path / "a", make_experiment(), detector=make_detector(dropout=0.0))
    mixed, _ = train(tmp_path / "b", make_experiment(optimizer_options=options), detector=make_detector(dropout=0.0))
    # 15 steps at lr 0.05 with gradients below 1: bfloat16's 2**-8 leaves less than 0.05 * 15 * 2**-8 * 2.
    assert (plain.model.head.weight - mixed.model.head.weight).abs().max() < 6e-3  # type: ignore[union-attr, operator]
    assert not torch.equal(plain.model.head.weight, mixed.model.head.weight)  # type: ignore[union-attr, arg-type]


def test_hooks_see_the_state_at_five_points_and_may_end_the_run(tmp_path: Path) -> None:
    class Watcher(Hook):
        def __init__(self) -> None:
            self.calls: list[tuple[str, int, int]] = []

        def before_train(self, state: TrainState) -> None:
            self.calls.append(("before_train", state.epoch, state.step))

        def before_epoch(self, state: TrainState) -> None:
            self.calls.append(("before_epoch", state.epoch, state.step))

        def after_step(self, state: TrainState) -> None:
            self.calls.append(("after_step", state.epoch, state.step))
            state.should_stop = state.step == 3

        def after_epoch(self, state: TrainState) -> None:
            self.calls.append(("after_epoch", state.epoch, state.step))

        def after_train(self, state: TrainState) -> None:
            self.calls.append(("after_train", state.epoch, state.step))

    watcher = Watcher()
    train(tmp_path, train_loader=FakeLoader(2), hooks=[watcher])
    assert watcher.calls == [
        ("before_train", 0, 0),
        ("before_epoch", 0, 0),
        ("after_step", 0, 1),
        ("after_step", 0, 2),
        ("after_epoch", 1, 2),
        ("before_epoch", 1, 2),
        ("after_step", 1, 3),
        ("after_train", 1, 3),
    ]
    assert (tmp_path / "epoch_2.pth").is_file()


def test_a_detector_that_asks_for_the_epoch_is_told_it(tmp_path: Path) -> None:
    detector = make_detector(dropout=0.0)
    told: list[int] = []
    detector.start_epoch = told.append  # type: ignore[assignment]
    train(tmp_path, train_loader=FakeLoader(2), detector=detector)
    assert told == list(range(len(told)))
    assert len(told) > 1


def test_hooks_of_the_config_are_built_and_ordered_by_priority(tmp_path: Path) -> None:
    order: list[str] = []

    class TestOnlyHook(Hook):
        def __init__(self, name: str) -> None:
            self.name = name

        def before_train(self, state: TrainState) -> None:
            order.append(self.name)

    if "TestOnlyHook" not in HOOKS:
        HOOKS.register("TestOnlyHook")(TestOnlyHook)
    specs = (
        Spec.of("TestOnlyHook", name="low", priority="LOW"),
        Spec.of("TestOnlyHook", name="normal"),
        Spec.of("TestOnlyHook", name="first", priority=3),
    )
    train(tmp_path, make_experiment(length=1, hooks=specs))
    assert order == ["first", "normal", "low"]


def test_an_unknown_hook_or_priority_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedConfig, match="NoSuchHook"):
        train(tmp_path, make_experiment(hooks=(Spec.of("NoSuchHook"),)))
    HOOKS.register("TestOnlyEmptyHook")(Hook)
    with pytest.raises(ConfigError, match="VERY_LOW"):
        train(tmp_path, make_experiment(hooks=(Spec.of("TestOnlyEmptyHook", priority="VERYLOW"),)))


def test_the_start_block_says_what_will_run_and_the_end_block_what_came_out(tmp_path: Path) -> None:
    experiment = make_experiment(
        optimizer=Spec.of("SGD", lr=0.02), base_batch_size=16, checkpoints=Checkpoints(save_best="auto")
    )
    _, printed = train(tmp_path, experiment, evaluate=lambda epoch: {"mAP": epoch / 10}, facts=[("config", "my.py")])
    assert "config         my.py" in printed
    assert "lr 0.02 is for batch 16; yours is 2 -> not scaled: pass --auto-scale-lr for 0.0025" in printed
    assert "2 = 1 x 2 x 1 (processes x images x accumulated)" in printed
    assert f"best 0.3000 at epoch 3: {tmp_path / 'best_mAP_epoch_3.pth'}" in printed


def test_a_dry_run_gives_losses_and_writes_nothing(tmp_path: Path) -> None:
    runner = Runner(make_experiment(), detector=make_detector(), train_loader=FakeLoader(), work_dir=tmp_path / "w")
    losses = runner.dry_run()
    assert list(losses) == ["loss", "loss_bbox", "loss_cls", "acc"]
    assert losses["loss"] == pytest.approx(losses["loss_bbox"] + losses["loss_cls"])
    assert not (tmp_path / "w").exists()


def test_a_config_without_optimizer_or_batches_cannot_train(tmp_path: Path) -> None:
    experiment = dataclasses.replace(make_experiment(), optimizer=None)
    with pytest.raises(ConfigError, match="optimizer"):
        train(tmp_path, experiment)
    with pytest.raises(ConfigError, match="no batch"):
        train(tmp_path, train_loader=FakeLoader(0))
