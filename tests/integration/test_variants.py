"""Other detectors and other ways to train, through the command: masks, dense heads, EMA, bf16, accumulation."""

import json
from pathlib import Path

import pytest
import torch

from tests.integration.commands import CONFIGS, TINY, fastdet, overrides, write_config
from tests.integration.conftest import Trained
from tests.integration.test_train_and_test import rows_of

EMA = "custom_hooks = [dict(type='EMAHook', momentum=0.1)]\n"


def load(path: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return weights


def assert_same_weights(one: Path, two: Path) -> None:
    a, b = load(one), load(two)
    assert list(a) == list(b)
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def test_mask_rcnn_trains_evaluates_masks_and_writes_them(shapes: Path, tmp_path: Path) -> None:
    config = CONFIGS / "mask_rcnn.py"
    ended = fastdet("train", config, "--work-dir", tmp_path, "--val-loss")
    assert ended.code == 0, ended.err
    train, val = rows_of(tmp_path)[0], rows_of(tmp_path)[-1]
    assert train["loss_mask"] > 0
    assert {"coco/bbox_mAP", "coco/segm_mAP", "coco/segm_mAP_50", "val_loss", "val_loss_mask", "val_acc"} <= set(val)
    parts = sum(value for name, value in val.items() if name.startswith("val_loss_"))
    assert val["val_loss"] == pytest.approx(parts, rel=1e-5)

    tested = fastdet("test", config, tmp_path / "epoch_1.pth", "--work-dir", tmp_path / "t", "--json")
    assert json.loads(tested.out) == {name: value for name, value in val.items() if "/" in name}
    found = fastdet(
        "predict", shapes / "val", config, tmp_path / "epoch_1.pth", "--out-dir", tmp_path / "p", "--score-thr", "0.01"
    )
    assert found.code == 0, found.err
    contents = [json.loads(p.read_text()) for p in (tmp_path / "p" / "preds").iterdir()]
    assert sum(len(c["masks"]) for c in contents) > 0
    assert all(mask["size"] == [64, 64] for c in contents for mask in c["masks"])


def test_retinanet_trains_and_tests_as_it_was_validated(tmp_path: Path) -> None:
    config = CONFIGS / "retinanet.py"
    ended = fastdet("train", config, "--work-dir", tmp_path, "--val-loss")
    assert ended.code == 0, ended.err
    val = rows_of(tmp_path)[-1]
    assert {"val_loss", "val_loss_cls", "val_loss_bbox"} <= set(val)
    tested = fastdet("test", config, tmp_path / "epoch_1.pth", "--work-dir", tmp_path / "t", "--json")
    assert json.loads(tested.out) == {name: value for name, value in val.items() if "/" in name}


def test_the_validation_loss_changes_no_training(trained: Trained, tmp_path: Path) -> None:
    assert fastdet("train", TINY, "--work-dir", tmp_path, "--val-loss").code == 0
    assert_same_weights(tmp_path / "epoch_2.pth", trained.checkpoint)


def test_training_twice_gives_the_same_weights_whatever_the_number_of_workers(trained: Trained, tmp_path: Path) -> None:
    pairs = overrides("train_dataloader.num_workers=2", "val_dataloader.num_workers=1")
    assert fastdet("train", TINY, "--work-dir", tmp_path, *pairs).code == 0
    assert_same_weights(tmp_path / "epoch_2.pth", trained.checkpoint)


def test_another_seed_gives_other_weights(trained: Trained, tmp_path: Path) -> None:
    assert fastdet("train", TINY, "--work-dir", tmp_path, "--no-validate", "--seed", "7").code == 0
    name = "roi_head.bbox_head.fc_cls.weight"
    assert not torch.equal(load(tmp_path / "epoch_2.pth")[name], load(trained.checkpoint)[name])


def test_with_ema_the_averaged_weights_are_validated_saved_and_tested(trained: Trained, tmp_path: Path) -> None:
    config = write_config(tmp_path, EMA)
    prefix = overrides(f"+val_evaluator.outfile_prefix={tmp_path / 'val'}")
    assert fastdet("train", config, "--work-dir", tmp_path / "w", *prefix).code == 0
    content = torch.load(tmp_path / "w" / "epoch_2.pth", weights_only=True)
    # The raw weights are those of a run without EMA: averaging changes no training.
    raw = load(trained.checkpoint)
    name = "roi_head.bbox_head.fc_cls.weight"
    assert torch.equal(content["ema_state_dict"][f"module.{name}"], raw[name])
    assert not torch.equal(content["state_dict"][name], raw[name])
    tested = fastdet(
        "test", config, tmp_path / "w" / "epoch_2.pth", "--work-dir", tmp_path / "t", "--json", "--eval-options",
        f"jsonfile_prefix={tmp_path / 'test'}",
    )  # fmt: skip
    assert tested.code == 0, tested.err
    assert (tmp_path / "test.bbox.json").read_text() == (tmp_path / "val.bbox.json").read_text()


def test_bf16_trains_on_the_cpu_and_keeps_float32_weights(trained: Trained, tmp_path: Path) -> None:
    prefix = overrides(f"+val_evaluator.outfile_prefix={tmp_path / 'val'}")
    ended = fastdet("train", TINY, "--work-dir", tmp_path / "w", "--amp", *prefix)
    assert ended.code == 0, ended.err
    assert "bf16 autocast" in ended.out
    weights = load(tmp_path / "w" / "epoch_2.pth")
    assert {v.dtype for v in weights.values() if v.is_floating_point()} == {torch.float32}
    # bf16 keeps 8 bits: the first losses of both runs agree to about 1 in 2^6 after a dozen layers.
    first, exact = rows_of(tmp_path / "w")[0], rows_of(trained.work_dir)[0]
    assert first["loss"] == pytest.approx(exact["loss"], rel=0.05)
    assert first["loss"] != exact["loss"]
    tested = fastdet(
        "test", TINY, tmp_path / "w" / "epoch_2.pth", "--work-dir", tmp_path / "t", "--json", "--eval-options",
        f"jsonfile_prefix={tmp_path / 'test'}",
    )  # fmt: skip
    assert tested.code == 0, tested.err
    assert (tmp_path / "test.bbox.json").read_text() == (tmp_path / "val.bbox.json").read_text()


def test_accumulation_updates_once_a_group_and_names_the_effective_batch(tmp_path: Path) -> None:
    config = write_config(
        tmp_path,
        "optim_wrapper = dict(accumulative_counts=2)\ntrain_dataloader = dict(batch_size=2)\n"
        "auto_scale_lr = dict(base_batch_size=8)\ntrain_cfg = dict(max_epochs=1)\n",
    )
    ended = fastdet("train", config, "--work-dir", tmp_path / "w", "--no-validate", "--auto-scale-lr")
    assert ended.code == 0, ended.err
    assert "batch          4 = 1 x 2 x 2" in ended.out
    assert "lr 0.01 is for batch 8; yours is 4 -> using 0.005 because --auto-scale-lr" in ended.out
    content = torch.load(tmp_path / "w" / "epoch_1.pth", weights_only=True)
    assert content["meta"]["iter"] == 8
    assert {float(state["step"]) for state in content["optimizer"]["state"].values()} == {4.0}


def test_a_loop_of_iterations_writes_iteration_checkpoints(tmp_path: Path) -> None:
    config = write_config(
        tmp_path,
        "train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=6, val_interval=3)\n"
        "default_hooks = dict(checkpoint=dict(by_epoch=False, interval=3))\n",
    )
    ended = fastdet("train", config, "--work-dir", tmp_path / "w")
    assert ended.code == 0, ended.err
    assert {"iter_3.pth", "iter_6.pth"} <= {p.name for p in (tmp_path / "w").iterdir()}
    assert [row["step"] for row in rows_of(tmp_path / "w") if "coco/bbox_mAP" in row] == [3, 6]


def test_a_config_of_mmdetection_2_trains_to_the_same_bits(trained: Trained, tmp_path: Path) -> None:
    config = CONFIGS / "tiny_v2.py"
    ended = fastdet("train", config, "--work-dir", tmp_path, "--seed", "0")
    assert ended.code == 0, ended.err
    assert_same_weights(tmp_path / "epoch_2.pth", trained.checkpoint)
    options = ["--work-dir", tmp_path / "t", "--json", "--batch-size", "4"]
    old = fastdet("test", config, tmp_path / "latest.pth", "--eval", "bbox", *options)
    new = fastdet("test", TINY, trained.checkpoint, *options)
    assert json.loads(old.out) == json.loads(new.out)
