"""3.x dataloaders become DataSplits."""

from pathlib import Path
from typing import Any

import pytest

from fastdet.compat.data import classes_of, dataset, split, with_annotations
from fastdet.config.schema import Data, DataSplit
from fastdet.registry import Spec
from fastdet.utils.errors import ConfigError, UnsupportedConfig

from .samples import new_config, written

LEAF = {"type": "CocoDataset", "data_root": "d/", "ann_file": "a.json", "data_prefix": {"img": "i/"}}


def leaf(*, training: bool = True, **changes: Any) -> Spec:
    return dataset(written({**LEAF, **changes}), training=training)


def loader(*, training: bool = True, **changes: Any) -> DataSplit:
    return split(written({"dataset": LEAF, **changes}), "train_dataloader", training=training)


def test_paths_are_joined_and_filters_are_spelt_out() -> None:
    assert leaf() == Spec.of(
        "CocoDataset", ann_file="d/a.json", image_dir="d/i", filter_empty_gt=False, min_size=0, test_mode=False,
        transforms=(),
    )  # fmt: skip


def test_settings_of_speed_and_view_change_nothing() -> None:
    changes = {"lazy_init": True, "serialize_data": False, "max_refetch": 9, "metainfo": {"palette": [(1, 2, 3)]}}
    assert leaf(**changes, backend_args=None) == leaf()


def test_a_test_set_filters_nothing() -> None:
    filters = {"filter_empty_gt": True, "min_size": 32}
    found = leaf(training=False, test_mode=True, filter_cfg=filters)
    assert (found.args["filter_empty_gt"], found.args["min_size"]) == (False, 0)
    assert leaf(training=False, test_mode=True) == leaf(training=False)
    assert leaf(training=False, filter_cfg=filters).args["min_size"] == 32


def test_vocs_folders_hang_on_one_root() -> None:
    voc = {
        "type": "VOCDataset", "data_root": "d", "ann_file": "a.txt", "data_prefix": {"sub_data_root": "VOC2007/"},
        "filter_cfg": {"filter_empty_gt": True, "min_size": 32, "bbox_min_size": 16}, "img_subdir": "pictures",
    }  # fmt: skip
    found = dataset(written(voc), training=True)
    assert found.args["root"] == "d/VOC2007"
    assert found.args["bbox_min_size"] == 16
    assert found.args["image_dir"] == "pictures"
    assert "ann_dir" not in found.args


def test_a_concatenation_of_one_is_that_one() -> None:
    assert dataset(written({"type": "ConcatDataset", "datasets": [LEAF]}), training=True) == leaf()


def test_wrappers_hold_their_datasets() -> None:
    found = dataset(
        written({"type": "RepeatDataset", "times": 3, "dataset": {"type": "ConcatDataset", "datasets": [LEAF, LEAF]}}),
        training=True,
    )
    assert found == Spec.of("RepeatDataset", times=3, dataset=Spec.of("ConcatDataset", datasets=(leaf(), leaf())))


def test_arguments_of_users_datasets_stay() -> None:
    assert leaf(type="Mine", depth=3).args["depth"] == 3


def test_classes_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("cat\ndog\n\n")
    assert leaf(metainfo={"classes": str(file)}).args["classes"] == ("cat", "dog")
    with pytest.raises(ConfigError, match=r"classes='dog' must be a file with a name a line, or a tuple"):
        leaf(metainfo={"classes": "dog"})


def test_the_experiments_classes_are_the_training_sets() -> None:
    a, b = (DataSplit(dataset=leaf(metainfo={"classes": [name]})) for name in "ab")
    wrapped = DataSplit(dataset=Spec.of("RepeatDataset", times=2, dataset=a.dataset))
    assert classes_of(Data(train=wrapped, val=b)) == ("a",)
    assert classes_of(Data(val=b)) == ("b",)
    assert classes_of(Data()) == ()


def test_loaders_shuffle_and_group() -> None:
    assert loader(sampler={"type": "InfiniteSampler"}).shuffle
    assert not loader(sampler={"type": "DefaultSampler", "shuffle": False, "round_up": False}).shuffle
    assert loader(batch_sampler={"type": "AspectRatioBatchSampler", "drop_last": True}) == DataSplit(
        dataset=leaf(), shuffle=True, group_by_aspect_ratio=True, drop_last=True
    )
    assert loader(training=False).shuffle is False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampler": {"type": "TrackImgSampler"}}, "'TrackImgSampler' is not supported"),
        (
            {"batch_sampler": {"type": "TrackAspectRatioBatchSampler"}},
            "'TrackAspectRatioBatchSampler' is not supported",
        ),
        ({"collate_fn": {"type": "yolo_collate"}}, "collate_fn"),
        ({"sampler": {"type": "DefaultSampler", "seed": 3}}, "seed=3 is not supported"),
    ],
)
def test_what_loaders_lack_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedConfig, match=message):
        loader(**change)


def test_wrong_values_and_unknown_keys_are_errors_with_their_place() -> None:
    with pytest.raises(ConfigError, match=r"(?s)unknown argument 'batchsize'.*config.py:7.*'batch_size'"):
        loader(batchsize=2)
    with pytest.raises(ConfigError, match=r"batch_size must be a whole number, not 'two'\n  config.py:7"):
        loader(batch_size="two")
    with pytest.raises(ConfigError, match=r"batch_size must be a whole number of at least 1, not 0\n  config.py:7"):
        loader(batch_size=0)
    with pytest.raises(ConfigError, match="train_dataloader needs a dataset"):
        split(written({"batch_size": 2}), "train_dataloader", training=True)


def test_a_validation_set_for_the_loss_loads_annotations_as_the_training_does() -> None:
    config = new_config()
    config["train_dataloader"]["dataset"]["pipeline"][1]["with_mask"] = True
    train, val = (split(written(config[f"{s}_dataloader"]), s, training=s == "train") for s in ("train", "val"))
    found = with_annotations(val, train)
    assert found.dataset.args["transforms"][1] == Spec.of("LoadAnnotations", with_mask=True)
    assert with_annotations(found, train) == found
