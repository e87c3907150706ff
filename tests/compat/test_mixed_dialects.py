"""2.x keys over a 3.x base, and next to 3.x keys: key by key, the nearer file counts."""

from pathlib import Path

import pytest

from fastdet.compat import load_experiment
from fastdet.config.schema import Experiment

from .samples import MEAN, STD, new_config, new_experiment


def over_base(folder: Path, text: str) -> Experiment:
    """A file in `folder` with that text over the sample config of 3.x."""
    (folder / "base.py").write_text("\n".join(f"{key} = {value!r}" for key, value in new_config().items()))
    (folder / "user.py").write_text(f"_base_ = ['base.py']\n{text}\n")
    return load_experiment(folder / "user.py")


def test_an_optimizer_of_2x_changes_the_base_of_3x(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"user.py:2: 'optimizer' \(2.x\) is laid over 'optim_wrapper'"):
        found = over_base(tmp_path, "optimizer = dict(type='AdamW', lr=0.001)")
    assert found.optimizer is not None
    assert found.optimizer.algorithm.type == "AdamW"
    assert found.optimizer.algorithm.args["lr"] == 0.001
    assert found.optimizer.clip == {"max_norm": 35, "norm_type": 2}


def test_next_to_each_other_in_one_file_the_key_of_3x_counts() -> None:
    with pytest.warns(UserWarning, match=r"'optimizer' \(2.x\) is not used, as 'optim_wrapper' \(3.x\) is given"):
        found = new_experiment(optimizer={"type": "Adam", "lr": 1.0})
    assert found == new_experiment()


@pytest.mark.filterwarnings("ignore:.*is laid over")
def test_the_mosaic_example_of_the_3x_documentation_runs_as_printed(tmp_path: Path) -> None:
    found = over_base(
        tmp_path,
        """
data_root = 'data/coco/'
dataset_type = 'CocoDataset'
img_scale = (1333, 800)
train_pipeline = [
    dict(type='Mosaic', img_scale=img_scale, pad_val=114.0),
    dict(type='RandomAffine', scaling_ratio_range=(0.1, 2), border=(-img_scale[0] // 2, -img_scale[1] // 2)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs')
]
train_dataset = dict(
    _delete_=True,
    type='MultiImageMixDataset',
    dataset=dict(
        type=dataset_type,
        ann_file=data_root + 'annotations/instances_train2017.json',
        img_prefix=data_root + 'train2017/',
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)],
        filter_empty_gt=False),
    pipeline=train_pipeline)
data = dict(train=train_dataset)
""",
    )
    assert found.data.train is not None
    mixed = found.data.train.dataset
    assert mixed.type == "MultiImageMixDataset"
    assert mixed.args.keys() == {"dataset", "transforms"}
    assert [t.type for t in mixed.args["transforms"]] == ["Mosaic", "RandomAffine", "RandomFlip"]
    assert mixed.args["transforms"][0].args["img_scale"] == (1333, 800)
    inner = mixed.args["dataset"].args
    assert inner["ann_file"] == "data/coco/annotations/instances_train2017.json"
    assert inner["image_dir"] == "data/coco/train2017"
    assert (inner["filter_empty_gt"], inner["min_size"]) == (False, 32)
    assert found.data.train.batch_size == 4


@pytest.mark.filterwarnings("ignore:.*is laid over")
def test_parts_of_a_2x_dataset_merge_into_the_bases_dataset(tmp_path: Path) -> None:
    found = over_base(tmp_path, "data = dict(samples_per_gpu=7, train=dict(ann_file='other/train.json'))")
    assert found.data.train is not None
    arguments = found.data.train.dataset.args
    assert found.data.train.batch_size == 7
    assert arguments["ann_file"] == "other/train.json"
    assert arguments["image_dir"] == "d/train"
    assert arguments["classes"] == ("a", "b", "c")
    assert arguments["filter_empty_gt"]


@pytest.mark.filterwarnings("ignore:.*is laid over")
def test_a_2x_validation_set_takes_the_metric_with_it(tmp_path: Path) -> None:
    found = over_base(tmp_path, "data = dict(val=dict(ann_file='other/val.json'))")
    assert found.data.val is not None
    assert found.data.val.dataset.args["ann_file"] == "other/val.json"
    assert found.val_metrics[0].args["ann_file"] == "other/val.json"
    assert found.test_metrics[0].args["ann_file"] == "d/val.json"


@pytest.mark.filterwarnings("ignore:.*is laid over")
def test_schedule_keys_of_2x_change_the_base_of_3x(tmp_path: Path) -> None:
    found = over_base(
        tmp_path,
        "total_epochs = 6\nlr_config = dict(policy='step', step=[4])\nevaluation = dict(interval=3, metric='proposal')",
    )
    assert (found.loop.length, found.loop.val_interval) == (6, 3)
    assert [s.type for s in found.schedule] == ["MultiStepLR"]
    assert found.schedule[0].args["end"] == 6
    assert found.val_metrics[0].args["metric"] == ("proposal",)
    assert found.val_metrics[0].args["ann_file"] == "d/val.json"


def test_2x_keys_inside_a_3x_dataloader_are_read() -> None:
    config = new_config()
    dataset = config["train_dataloader"]["dataset"]
    del dataset["data_prefix"], dataset["metainfo"], dataset["filter_cfg"]
    dataset.update(img_prefix="train/", classes=["a", "b", "c"], filter_empty_gt=True)
    assert new_experiment(**config) == new_experiment()


def test_a_2x_normalize_with_the_same_numbers_as_the_preprocessor_is_one_and_the_same() -> None:
    config = new_config()
    normalize = {"type": "Normalize", "mean": MEAN, "std": STD, "to_rgb": True}
    config["train_dataloader"]["dataset"]["pipeline"].insert(4, normalize)
    assert new_experiment(**config) == new_experiment()
