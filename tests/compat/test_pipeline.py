"""3.x transforms become Specs with the arguments that differ from the defaults."""

from typing import Any

import pytest

from fastdet.compat.pipeline import transforms
from fastdet.registry import Spec
from fastdet.utils.errors import ConfigError, UnsupportedConfig

from .samples import written


def specs(*nodes: dict[str, Any], training: bool = True) -> tuple[Spec, ...]:
    return transforms([written(n) for n in nodes], "pipeline", training=training)


@pytest.mark.parametrize(
    ("node", "arguments"),
    [
        ({"type": "LoadImageFromFile", "color_type": "color", "backend_args": None}, {}),
        ({"type": "LoadAnnotations", "with_bbox": True, "with_mask": True}, {"with_mask": True}),
        ({"type": "Resize", "scale": [4, 3], "clip_object_border": True}, {"scale": (4, 3), "keep_ratio": False}),
        (
            {"type": "RandomChoiceResize", "scales": [(4, 3)], "resize_type": "Resize", "keep_ratio": True},
            {"scales": ((4, 3),), "keep_ratio": True},
        ),
        ({"type": "RandomFlip", "prob": 0.5, "direction": ["horizontal"]}, {"prob": 0.5}),
        ({"type": "Pad", "size_divisor": 32, "pad_val": 0}, {"size_divisor": 32}),
        ({"type": "Pad", "size": (4, 3), "pad_val": {"img": (114, 114, 114)}},
         {"size": (4, 3), "pad_val": {"img": (114, 114, 114)}}),
        ({"type": "PhotoMetricDistortion", "brightness_delta": 32, "contrast_range": [0.5, 1.5]}, {}),
        ({"type": "Mosaic", "img_scale": (4, 3), "pad_val": 114.0}, {"img_scale": (4, 3)}),
        ({"type": "CachedMixUp", "prob": 0.5, "max_cached_images": 20, "ratio_range": (1.0, 1.0)},
         {"prob": 0.5, "ratio_range": (1.0, 1.0)}),
        ({"type": "RandomAffine", "border": [0, 0], "max_shear_degree": 2}, {}),
    ],
)  # fmt: skip
def test_defaults_are_left_out(node: dict[str, Any], arguments: dict[str, Any]) -> None:
    assert specs(node) == (Spec.of(node["type"], **arguments),)


def test_transforms_without_a_table_keep_everything() -> None:
    node = {"type": "Mine", "img_scale": (4, 3), "pad_val": 114.0}
    assert specs(node) == (Spec.of("Mine", img_scale=(4, 3), pad_val=114.0),)


def test_transforms_inside_transforms_follow_the_same_rules() -> None:
    inner = [[{"type": "RandomFlip", "prob": 0.5, "direction": "horizontal"}, {"type": "PackDetInputs"}]]
    (choice,) = specs({"type": "RandomChoice", "transforms": inner})
    assert choice.args["transforms"] == ((Spec.of("RandomFlip", prob=0.5),),)


def test_what_proposals_are_broadcast_to_stands_in_the_pipeline_itself() -> None:
    load = {"type": "LoadProposals", "num_max_proposals": 2000}
    flip = {"type": "RandomFlip", "prob": 0.5}
    broadcast = {"type": "ProposalBroadcaster", "transforms": [{"type": "Resize", "scale": (4, 3)}, flip]}
    assert [s.type for s in specs(load, {"type": "LoadAnnotations"}, broadcast)] == [
        "LoadProposals", "LoadAnnotations", "Resize", "RandomFlip",
    ]  # fmt: skip
    assert [s.type for s in specs(load, {"type": "LoadAnnotations"}, training=False)] == ["LoadProposals"]


def test_resizing_by_another_transform_forwards_its_arguments() -> None:
    node = {"type": "RandomChoiceResize", "scales": [480], "resize_type": "ResizeShortestEdge", "max_size": 1333}
    (found,) = specs(node)
    assert found.args["max_size"] == 1333


def test_a_test_pipeline_loads_no_annotations_unless_something_needs_them() -> None:
    load, resize = {"type": "LoadAnnotations"}, {"type": "Resize", "scale": (4, 3)}
    assert [s.type for s in specs(resize, load, training=False)] == ["Resize"]
    assert [s.type for s in specs(load, {"type": "Mine"}, training=False)] == ["LoadAnnotations", "Mine"]


def test_unknown_and_missing_arguments_are_errors() -> None:
    with pytest.raises(
        ConfigError, match=r"(?s)unknown argument 'keep_ration' for Resize\n  config.py:7.*'keep_ratio'"
    ):
        specs({"type": "Resize", "scale": (4, 3), "keep_ration": True})
    with pytest.raises(ConfigError, match="RandomFlip needs the argument 'prob'"):
        specs({"type": "RandomFlip"})


def test_files_elsewhere_are_refused() -> None:
    with pytest.raises(UnsupportedConfig, match="file backend 'petrel'"):
        specs({"type": "LoadImageFromFile", "backend_args": {"backend": "petrel"}})
    assert specs({"type": "LoadImageFromFile", "file_client_args": {"backend": "disk"}})
