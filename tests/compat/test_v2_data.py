"""The 2.x data section becomes dataloaders."""

from typing import Any

import pytest

from fastdet.compat.v2 import upgrade
from fastdet.compat.v2_data import joined, split_loaders, upgrade_dataset
from fastdet.config.configdict import adopt
from fastdet.config.schema import DataSplit
from fastdet.utils.errors import ConfigError

from .samples import old_config, old_experiment, written

LEAF = {"type": "CocoDataset", "ann_file": "a.json", "img_prefix": "images/", "pipeline": []}
TRAINING_FILTERS = {"filter_empty_gt": True, "min_size": 32}


def upgraded(dataset: Any, *, training: bool = True) -> Any:
    return upgrade_dataset(adopt(dataset), is_old=True, training=training)


def train_split(**changes: Any) -> DataSplit:
    config = old_config()
    config["data"] = {**config["data"], **changes}
    found = old_experiment(**config).data.train
    assert found is not None
    return found


def test_a_training_leaf_has_the_filters_of_2x() -> None:
    assert upgraded(LEAF) == {
        "type": "CocoDataset", "ann_file": "a.json", "data_prefix": {"img": "images/"}, "pipeline": [],
        "filter_cfg": TRAINING_FILTERS,
    }  # fmt: skip
    assert upgraded({**LEAF, "filter_empty_gt": False})["filter_cfg"] == {"filter_empty_gt": False, "min_size": 32}


def test_a_test_leaf_has_none() -> None:
    found = upgraded({**LEAF, "filter_empty_gt": True}, training=False)
    assert "filter_cfg" not in found
    assert found["test_mode"]


def test_vocs_min_size_is_that_of_boxes() -> None:
    leaf = {"type": "VOCDataset", "ann_file": "a.txt", "img_prefix": "VOC2007/", "min_size": 16, "pipeline": []}
    found = upgraded(leaf)
    assert found["data_prefix"] == {"sub_data_root": "VOC2007/"}
    assert found["filter_cfg"] == {**TRAINING_FILTERS, "bbox_min_size": 16}


def test_classes_and_segmentation_folders_are_renamed() -> None:
    found = upgraded({**LEAF, "classes": ("cat",), "seg_prefix": "maps/", "seg_suffix": ".tif"})
    assert found["metainfo"] == {"classes": ("cat",)}
    assert found["data_prefix"] == {"img": "images/", "seg": "maps/"}
    assert found["seg_map_suffix"] == ".tif"


def test_several_annotation_files_are_a_concatenation() -> None:
    files = {"ann_file": ["a.json", "b.json"], "img_prefix": ["a/", "b/"]}
    found = upgraded({"type": "RepeatDataset", "times": 3, "dataset": {**LEAF, **files}})
    inner = found["dataset"]
    assert (found["times"], inner["type"]) == (3, "ConcatDataset")
    assert [(d["ann_file"], d["data_prefix"]["img"]) for d in inner["datasets"]] == [("a.json", "a/"), ("b.json", "b/")]


def test_each_annotation_file_needs_its_prefix() -> None:
    with pytest.raises(ConfigError, match="2 annotation files but 1 values in img_prefix"):
        upgraded({**LEAF, "ann_file": ["a.json", "b.json"], "img_prefix": ["a/"]})


def test_a_list_of_datasets_is_a_concatenation() -> None:
    found = upgraded([LEAF, LEAF])
    assert (found["type"], len(found["datasets"])) == ("ConcatDataset", 2)


def test_a_concatenation_may_be_evaluated_as_one() -> None:
    found = upgraded({"type": "ConcatDataset", "datasets": [LEAF], "separate_eval": False})
    assert "separate_eval" not in found


def test_batch_sizes_stand_in_several_places() -> None:
    data = {
        "imgs_per_gpu": 5, "workers_per_gpu": 3, "train": LEAF, "val": {**LEAF, "samples_per_gpu": 4},
        "test": [{**LEAF, "samples_per_gpu": 2}, LEAF],
    }  # fmt: skip
    found = split_loaders(adopt(data))
    assert [found[s]["batch_size"] for s in ("train", "val", "test")] == [5, 4, 2]
    assert [found[s]["num_workers"] for s in ("train", "val", "test")] == [3, 3, 3]


def test_loaders_of_2_28_are_read() -> None:
    assert train_split(train_dataloader={"samples_per_gpu": 9, "workers_per_gpu": 6}).batch_size == 4
    config = old_config()
    del config["data"]["samples_per_gpu"]
    config["data"]["train_dataloader"] = {"samples_per_gpu": 9, "shuffle": False, "persistent_workers": True}
    found = old_experiment(**config).data.train
    assert found is not None
    assert (found.batch_size, found.shuffle) == (9, False)


def test_what_2x_does_by_default() -> None:
    config = old_config()
    del config["data"]["samples_per_gpu"], config["data"]["workers_per_gpu"]
    found = old_experiment(**config).data
    assert found.train is not None
    assert found.val is not None
    assert (found.train.batch_size, found.train.num_workers, found.val.batch_size) == (2, 2, 1)


def test_classes_can_take_turns() -> None:
    config = old_config()
    config["data"]["train_dataloader"] = {"class_aware_sampler": {"num_sample_class": 2}}
    found = old_experiment(**config).data.train
    assert found is not None
    assert (found.shuffle, found.images_per_class, found.group_by_aspect_ratio) == (True, 2, False)


def test_the_rescaling_of_semantic_maps_moves_into_the_head() -> None:
    config = old_config()
    config["data"]["train"]["pipeline"].insert(-2, {"type": "SegRescale", "scale_factor": 0.25})
    head: dict[str, Any] = {"type": "FusedSemanticHead"}
    config["model"] = {"type": "HybridTaskCascade", "roi_head": {"semantic_head": head}}
    found = upgrade(written(config))
    assert found["model"]["roi_head"]["semantic_head"]["seg_scale_factor"] == 0.25
    kinds = [node["type"] for node in found["train_dataloader"]["dataset"]["pipeline"]]
    assert kinds == ["LoadImageFromFile", "LoadAnnotations", "Resize", "RandomFlip"]


def test_folders_of_semantic_maps_and_files_of_proposals() -> None:
    config = old_config()
    config["data"]["train"] |= {"data_root": "data", "seg_prefix": "maps/", "proposal_file": "rpn.pkl"}
    found = old_experiment(**config).data.train
    assert found is not None
    assert found.dataset.args["seg_dir"] == "data/maps"
    assert found.dataset.args["proposal_file"] == "data/rpn.pkl"


def test_an_unknown_key_of_data_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"(?s)unknown argument 'sample_per_gpu' for data.*'samples_per_gpu'"):
        split_loaders(written({"sample_per_gpu": 2}))


@pytest.mark.parametrize(
    ("root", "path", "result"),
    [
        ("data/", "a/b.json", "data/a/b.json"),
        ("data", "./a//b/", "data/a/b"),
        ("data", "/a/b", "/a/b"),
        (None, "a/", "a"),
        ("data", "", "data"),
        ("data", "s3://bucket/a/", "s3://bucket/a/"),
        (None, None, ""),
    ],
)
def test_paths_are_joined_and_tidied(root: str | None, path: str | None, result: str) -> None:
    assert joined(root, path) == result
