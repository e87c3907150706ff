"""Train, then test: what lies in the work directory, and that testing gives what validation gave."""

import ast
import json
import pickle
from pathlib import Path

import pytest
import torch

from fastdet.compat import load_experiment
from fastdet.evaluation import load_results
from tests.integration.commands import TINY, fastdet, overrides, write_config
from tests.integration.conftest import Trained


def run_folder(work_dir: Path) -> Path:
    (folder,) = (p for p in work_dir.iterdir() if p.is_dir())
    return folder


def rows_of(work_dir: Path) -> list[dict[str, float]]:
    run = run_folder(work_dir)
    return [json.loads(line) for line in (run / "vis_data" / f"{run.name}.json").read_text().splitlines()]


def test_the_work_directory_has_the_layout_that_users_know(trained: Trained) -> None:
    names = {p.name for p in trained.work_dir.iterdir()} - {"val.bbox.json"}
    run = run_folder(trained.work_dir)
    best = {name for name in names if name.startswith("best_coco_bbox_mAP_epoch_")}
    assert len(best) == 1
    assert names - best == {
        run.name, f"{run.name}.py", "epoch_1.pth", "epoch_2.pth", "last_checkpoint", "latest.pth", "env.json",
    }  # fmt: skip
    assert {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()} == {
        f"{run.name}.log", f"vis_data/{run.name}.json", "vis_data/scalars.json", "vis_data/config.py",
    }  # fmt: skip
    assert Path((trained.work_dir / "last_checkpoint").read_text().strip()) == trained.checkpoint
    assert (trained.work_dir / "latest.pth").resolve() == trained.checkpoint.resolve()


def test_log_rows_have_the_names_and_the_order_that_analysis_tools_need(trained: Trained) -> None:
    rows = rows_of(trained.work_dir)
    train, val = [r for r in rows if "loss" in r], [r for r in rows if "coco/bbox_mAP" in r]
    assert [(r["epoch"], r["iter"], r["step"]) for r in train] == [(1, 2, 2), (1, 4, 4), (2, 6, 6), (2, 8, 8)]
    losses = ["loss", "loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "acc", "loss_bbox"]
    assert list(train[0]) == ["lr", "data_time", "grad_norm", *losses, "time", "epoch", "iter", "step"]
    assert [r["step"] for r in val] == [1, 2]
    names = list(val[0])
    assert names[0] == "coco/bbox_mAP"
    assert names.index("time") > max(i for i, name in enumerate(names) if "/" in name)
    for row in train:
        parts = sum(value for name, value in row.items() if name.startswith("loss_"))
        assert row["loss"] == pytest.approx(parts, rel=1e-5)


def test_the_text_log_has_a_line_for_each_row_and_the_start_block(trained: Trained) -> None:
    run = run_folder(trained.work_dir)
    text = (run / f"{run.name}.log").read_text()
    assert text.count("Epoch(train)") == 4
    assert text.count("Epoch(val)") == 2
    assert "lr 0.01 as configured" in text
    assert "16 images, " in text
    assert "batch          4 = 1 x 4 x 1" in text


def test_a_checkpoint_loads_without_running_code_and_says_what_it_is(trained: Trained) -> None:
    content = torch.load(trained.checkpoint, weights_only=True)
    assert (content["meta"]["epoch"], content["meta"]["iter"], content["meta"]["seed"]) == (2, 8, 0)
    assert content["meta"]["dataset_meta"]["classes"] == ["rectangle", "circle", "triangle"]
    assert "roi_head.bbox_head.shared_fcs.0.weight" in content["state_dict"]
    assert content["optimizer"]["param_groups"][0]["lr"] == pytest.approx(0.01)
    best = next(trained.work_dir.glob("best_*.pth"))
    assert "optimizer" not in torch.load(best, weights_only=True)


def test_the_dumped_config_is_python_and_describes_the_same_experiment(trained: Trained) -> None:
    run = run_folder(trained.work_dir)
    dump = trained.work_dir / f"{run.name}.py"
    ast.parse(dump.read_text())
    pair = f"+val_evaluator.outfile_prefix={trained.work_dir / 'val'}"
    assert load_experiment(dump).to_dict() == load_experiment(TINY, [pair]).to_dict()
    assert torch.load(trained.checkpoint, weights_only=True)["meta"]["cfg"] == dump.read_text()


def test_testing_the_last_checkpoint_gives_the_last_validation_exactly(trained: Trained, tmp_path: Path) -> None:
    prefix = f"jsonfile_prefix={tmp_path / 'test'}"
    ended = fastdet("test", TINY, trained.checkpoint, "--work-dir", tmp_path, "--json", "--eval-options", prefix)
    assert ended.code == 0, ended.err
    values = json.loads(ended.out)
    last = rows_of(trained.work_dir)[-1]
    assert values == {name: value for name, value in last.items() if "/" in name}
    detections = (tmp_path / "test.bbox.json").read_text()
    assert len(json.loads(detections)) > 20
    assert detections == (trained.work_dir / "val.bbox.json").read_text()
    (written,) = tmp_path.glob("*/*.json")
    assert json.loads(written.read_text()) == values


def test_detections_are_written_in_the_layout_of_results_pkl(trained: Trained, tmp_path: Path) -> None:
    out = tmp_path / "results.pkl"
    ended = fastdet("test", TINY, trained.checkpoint, "--work-dir", tmp_path, "--out", out)
    assert ended.code == 0, ended.err
    results = pickle.loads(out.read_bytes())
    assert len(results) == len(load_results(out)) == 6
    first = results[0]
    assert {"img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "pred_instances"} <= set(first)
    assert first["ori_shape"] == (64, 64)
    assert first["pred_instances"]["bboxes"].shape == (len(first["pred_instances"]["scores"]), 4)


def test_tables_are_printed_for_people_and_pictures_drawn(trained: Trained, tmp_path: Path) -> None:
    ended = fastdet(
        "test", TINY, trained.checkpoint, "--work-dir", tmp_path, "--show-dir", tmp_path / "shown", "--show-score-thr",
        "0.05", "--eval-options", "classwise=True",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "coco/bbox_mAP_50" in ended.out
    assert "bbox of each class" in ended.out
    assert "coco/triangle_precision" in ended.out
    assert len(list((tmp_path / "shown").glob("*.jpg"))) == 6


def test_the_report_is_one_file_with_curves_of_the_training_beside_the_checkpoint(
    trained: Trained, tmp_path: Path
) -> None:
    report = tmp_path / "report.html"
    ended = fastdet("test", TINY, trained.checkpoint, "--work-dir", tmp_path, "--report", report)
    assert ended.code == 0, ended.err
    data = json.loads(report.with_suffix(".json").read_text())
    assert data["plots"]["loss"]["series"][0]["x"] == [2, 4, 6, 8]
    assert "epoch_2.pth" in report.read_text()


def test_format_only_writes_files_and_computes_nothing(trained: Trained, tmp_path: Path) -> None:
    ended = fastdet("test", TINY, trained.checkpoint, "--work-dir", tmp_path, "--format-only", "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out) == {}
    assert (tmp_path / "results.bbox.json").is_file()


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    ended = fastdet("train", TINY, "--work-dir", tmp_path / "work", "--dry-run")
    assert ended.code == 0, ended.err
    assert "loss_rpn_cls" in ended.out
    assert sorted(tmp_path.rglob("*")) == before


def test_another_detector_starts_from_the_weights_that_fit(trained: Trained, tmp_path: Path) -> None:
    config = write_config(tmp_path, "model = dict(rpn_head=dict(feat_channels=24))\ntrain_cfg = dict(max_epochs=1)\n")
    ended = fastdet(
        "train", config, "--work-dir", tmp_path / "w", "--load-from", trained.checkpoint, "--reinit-head",
        "--no-validate", *overrides("train_dataloader.batch_size=16"),
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "of another shape, left as they were: rpn_head.rpn_conv.weight" in ended.out
