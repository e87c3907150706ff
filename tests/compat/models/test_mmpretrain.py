"""Backbones under MMPretrain's and MMClassification's names: defaults of classification, weights, refusals."""

from typing import Any

import pytest

from fastdet.compat.models.backbones import translate_backbone
from fastdet.config.configdict import adopt
from fastdet.config.schema import Pretrained
from fastdet.models.backbones import CSPResNet, MobileNetV3, VisionTransformer
from fastdet.registry import Source, Spec
from fastdet.utils.errors import ConfigError, UnsupportedConfig

PLACE = Source("config.py", 3)


def backbone(**node: Any) -> tuple[Spec, tuple[Pretrained, ...]]:
    return translate_backbone(adopt(node, PLACE))


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("ResNet", {"depth": 50}, Spec.of("ResNet", depth=50, norm=Spec.of("BN"), norm_eval=False, out_indices=(3,))),
        ("MobileNetV3", {}, Spec.of("MobileNetV3", norm=Spec.of("BN", eps=1e-3, momentum=0.01))),
        (
            "CSPResNeXt",
            {"depth": 50, "out_indices": (1, 2, 3)},
            Spec.of("CSPResNet", depth=50, kind="resnext", out_indices=(1, 2, 3), norm=Spec.of("BN")),
        ),
        (
            "VisionTransformer",
            {"out_type": "featmap", "final_norm": False},
            Spec.of(
                "VisionTransformer", arch="base", out_indices=(-1,), final_norm=False, norm=Spec.of("LN", eps=1e-6)
            ),
        ),
    ],
)
def test_defaults_are_those_of_classification(name: str, arguments: dict[str, Any], expected: Spec) -> None:
    assert backbone(type=f"mmpretrain.{name}", **arguments)[0] == expected


def test_mmclassification_says_in_another_way_that_a_map_comes_out() -> None:
    old, _ = backbone(type="mmpretrain.VisionTransformer", arch="b", output_cls_token=False)
    assert old == backbone(type="mmpretrain.VisionTransformer", arch="base", out_type="featmap")[0]


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"type": "mmpretrain.VisionTransformer"}, "out_type='featmap'"),
        ({"type": "mmpretrain.VisionTransformer", "output_cls_token": True}, "class tokens"),
        ({"type": "mmpretrain.ResNet", "depth": 50, "deep_stem": True}, "deep_stem|deep stem"),
        ({"type": "mmpretrain.SwinTransformer", "use_abs_pos_embed": True}, "use_abs_pos_embed=True"),
        ({"type": "mmpretrain.SwinTransformer", "arch": "giant"}, "tiny, small, base, large"),
        ({"type": "mmpretrain.CSPResNeXt", "arch": 50, "depth": 50}, "write depth=50"),
    ],
)
def test_what_is_not_run_is_refused_with_its_place(node: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, UnsupportedConfig), match=message) as caught:
        backbone(**node)
    assert "config.py" in str(caught.value)


def test_published_classifiers_start_the_backbone_alone() -> None:
    weights = {"type": "Pretrained", "checkpoint": "mmcls://mobilenet_v3_small"}
    _, (source,) = backbone(type="mmpretrain.MobileNetV3", init_cfg=weights)
    assert source == Pretrained(module="backbone", checkpoint="mmcls://mobilenet_v3_small", prefix="backbone.")


def frozen(model: Any) -> set[str]:
    return {key.rsplit(".", 1)[0] for key, p in model.named_parameters() if not p.requires_grad}


def test_stages_freeze() -> None:
    small = MobileNetV3(frozen_stages=1).train()
    assert {name.split(".")[0] for name in frozen(small)} == {"layer0", "layer1"}
    assert not small.layer0.training
    partial = CSPResNet(50, frozen_stages=0).train()
    assert {".".join(name.split(".")[:2]) for name in frozen(partial)} == {"stem.0", "stages.0"}
    vit = VisionTransformer("deit-tiny", frozen_stages=2).train()
    names = {".".join(name.split(".")[:2]) for name in frozen(vit)}
    assert {"patch_embed.projection", "layers.0", "layers.1"} < names
    assert "layers.2" not in names
    assert not vit.pos_embed.requires_grad


@pytest.mark.parametrize(
    "make",
    [
        lambda: MobileNetV3("medium"),
        lambda: MobileNetV3(out_indices=(13,)),
        lambda: CSPResNet(101),
        lambda: CSPResNet(50, out_indices=(4,)),
        lambda: VisionTransformer("giant"),
        lambda: VisionTransformer(out_indices=(12,)),
    ],
)
def test_sizes_and_indices_are_checked(make: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        make()
