"""2.x transforms become 3.x transforms."""

from typing import Any

import pytest

from fastdet.compat.v2_pipeline import upgrade_pipeline
from fastdet.config.configdict import adopt
from fastdet.utils.errors import ConfigError, UnsupportedConfig

from .samples import written

COLLECT = {"type": "Collect", "keys": ["img"]}


def upgraded(*transforms: dict[str, Any], is_old: bool = True) -> list[dict[str, Any]]:
    return [dict(t) for t in upgrade_pipeline(adopt(list(transforms)), is_old=is_old)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"img_scale": (4, 3)}, {"type": "Resize", "scale": (4, 3), "keep_ratio": True}),
        ({"img_scale": [(4, 3)]}, {"type": "Resize", "scale": (4, 3), "keep_ratio": True}),
        ({"img_scale": (4, 3), "keep_ratio": False}, {"type": "Resize", "scale": (4, 3), "keep_ratio": False}),
        ({"img_scale": [(4, 3), (8, 6)]}, {"type": "RandomResize", "scale": [(4, 3), (8, 6)], "keep_ratio": True}),
        (
            {"img_scale": [(4, 3), (8, 6)], "multiscale_mode": "value"},
            {"type": "RandomChoiceResize", "scales": [(4, 3), (8, 6)], "keep_ratio": True},
        ),
        (
            {"img_scale": (4, 3), "ratio_range": (0.5, 2)},
            {"type": "RandomResize", "scale": (4, 3), "ratio_range": (0.5, 2), "keep_ratio": True},
        ),
        (
            {"img_scale": (4, 3), "bbox_clip_border": False, "override": True, "backend": "pillow"},
            {
                "type": "Resize", "scale": (4, 3), "keep_ratio": True, "clip_object_border": False,
                "backend": "pillow",
            },
        ),
    ],
)  # fmt: skip
def test_each_form_of_resize_has_its_transform(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert upgraded({"type": "Resize", **old}) == [new]


def test_three_scales_are_no_range() -> None:
    with pytest.raises(ConfigError, match="two scales for multiscale_mode='range'"):
        upgraded({"type": "Resize", "img_scale": [(1, 1), (2, 2), (3, 3)]})


def test_a_resize_of_3x_keeps_its_own_default() -> None:
    new = {"type": "Resize", "scale": (4, 3)}
    assert upgraded(new, {"type": "PackDetInputs"}) == [new]


def test_formatting_is_left_out() -> None:
    names = ["DefaultFormatBundle", "Collect", "ImageToTensor", "ToTensor", "Transpose", "ToDataContainer"]
    assert upgraded({"type": "A"}, *({"type": name} for name in names)) == [{"type": "A"}]


def test_a_flip_without_ratio_is_none() -> None:
    assert upgraded({"type": "RandomFlip"}) == []
    assert upgraded({"type": "RandomFlip", "flip_ratio": 0.3, "direction": "vertical"}) == [
        {"type": "RandomFlip", "prob": 0.3, "direction": "vertical"}
    ]


def test_multi_scale_flip_aug_gives_its_scale_to_resize() -> None:
    inner = [{"type": "Resize", "keep_ratio": True}, {"type": "RandomFlip"}, {"type": "Normalize"}, COLLECT]
    aug = {"type": "MultiScaleFlipAug", "img_scale": (4, 3), "flip": False, "transforms": inner}
    assert upgraded(aug) == [{"type": "Resize", "scale": (4, 3), "keep_ratio": True}, {"type": "Normalize"}]


def test_multi_scale_flip_aug_may_have_a_factor() -> None:
    inner = [{"type": "Resize", "keep_ratio": True}]
    aug = {"type": "MultiScaleFlipAug", "scale_factor": 1.0, "flip": False, "transforms": inner}
    assert upgraded(aug) == [{"type": "Resize", "scale": None, "scale_factor": 1.0, "keep_ratio": True}]


@pytest.mark.parametrize("change", [{"flip": True}, {"img_scale": [(4, 3), (8, 6)]}])
def test_augmentation_at_test_time_is_refused(change: dict[str, Any]) -> None:
    aug = {"type": "MultiScaleFlipAug", "img_scale": (4, 3), "flip": False, "transforms": [], **change}
    with pytest.raises(UnsupportedConfig, match=r"(?s)test-time augmentation.*config.py:7"):
        upgrade_pipeline([written(aug)], is_old=True)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Pad", "size"), ("RandomCrop", "crop_size"), ("RandomCenterCropPad", "crop_size"), ("Mosaic", "img_scale"),
        ("MixUp", "img_scale"), ("RandomAffine", "border"),
    ],
)  # fmt: skip
def test_sizes_of_2x_are_height_first(name: str, key: str) -> None:
    assert upgraded({"type": name, key: (10, 20)}, COLLECT) == [{"type": name, key: (20, 10)}]
    assert upgraded({"type": name, key: (10, 20)}, {"type": "PackDetInputs"}) == [{"type": name, key: (10, 20)}]


def test_ranges_of_crop_sizes_have_no_order_to_turn() -> None:
    crop = {"type": "RandomCrop", "crop_type": "absolute_range", "crop_size": (384, 600)}
    assert upgraded(crop) == [crop]


def test_a_pipeline_without_marks_is_read_as_told() -> None:
    crop = {"type": "RandomCrop", "crop_size": (10, 20)}
    assert upgraded(crop, is_old=False) == [crop]
    assert upgraded(crop, is_old=True) == [{"type": "RandomCrop", "crop_size": (20, 10)}]


def test_policies_are_upgraded_too() -> None:
    policies = [[{"type": "Resize", "img_scale": (4, 3)}], [{"type": "RandomFlip", "flip_ratio": 0.5}]]
    (choice,) = upgraded({"type": "AutoAugment", "policies": policies})
    assert choice["type"] == "RandomChoice"
    assert choice["transforms"] == [
        [{"type": "Resize", "scale": (4, 3), "keep_ratio": True}],
        [{"type": "RandomFlip", "prob": 0.5}],
    ]


def test_transforms_whose_arguments_changed_their_meaning_are_refused() -> None:
    with pytest.raises(UnsupportedConfig, match="ShearX and ShearY"):
        upgraded({"type": "Shear", "level": 3})


def test_unknown_arguments_of_old_transforms_are_errors() -> None:
    with pytest.raises(ConfigError, match=r"(?s)unknown argument 'img_scal'.*config.py:7.*'img_scale'"):
        upgrade_pipeline([written({"type": "Resize", "img_scal": (4, 3)})], is_old=True)


def test_a_pipeline_is_a_list_of_dicts() -> None:
    with pytest.raises(ConfigError, match="pipeline: expected a dict with a type, not 'Resize'"):
        upgraded("Resize")  # type: ignore[arg-type]
