"""The backbones of MMDetection's how-to pages, with MMPretrain's and MMClassification's names, as printed there."""

from pathlib import Path

import pytest
import torch

from fastdet.build import build_detector
from fastdet.compat import load_experiment
from fastdet.config.schema import Pretrained
from fastdet.registry import Spec
from fastdet.utils.errors import ConfigError
from tests.config.wheels import unpack_configs

MOBILENET = """
_base_ = ['../_base_/models/retinanet_r50_fpn.py']
custom_imports = dict(imports=['mmpretrain.models'], allow_failed_imports=False)
pretrained = 'https://download.openmmlab.com/mmclassification/v0/mobilenet_v3/convert/mobilenet_v3_small-8427ecf0.pth'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.MobileNetV3',
        arch='small',
        out_indices=(3, 8, 11),
        init_cfg=dict(
            type='Pretrained',
            checkpoint=pretrained,
            prefix='backbone.')),
    neck=dict(in_channels=[24, 48, 96], start_level=0))
"""
PARTIAL = """
_base_ = "../yolox/yolox_s_8xb8-300e_coco.py"
custom_imports=dict(imports='mmcls.models', allow_failed_imports=False)
model = dict(
    backbone=dict(
        type='mmcls.CSPResNeXt',
        {key}=50,
        out_indices=(1, 2, 3),
        init_cfg=dict(
            type='Pretrained',
            checkpoint='mmcls://cspresnext50'),
        _delete_=True),
    neck=dict(in_channels=[512, 1024, 2048])
)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder beside MMDetection's configs."""
    own = unpack_configs("3.3.0", tmp_path_factory.mktemp("configs")) / "mine"
    own.mkdir()
    return own


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_retinanet_takes_mobilenet_from_mmpretrain(folder: Path) -> None:
    (folder / "mobilenet.py").write_text(MOBILENET)
    found = load_experiment(folder / "mobilenet.py")
    assert found.runtime.custom_imports == ()  # the network is built in
    (weights,) = found.weights
    assert (weights.module, weights.prefix) == ("backbone", "backbone.")
    assert weights.checkpoint.endswith("mobilenet_v3_small-8427ecf0.pth")
    with torch.device("meta"):
        detector = build_detector(found)
    assert detector.neck.lateral_convs[0].conv.in_channels == 24
    assert "layer12.conv.weight" in detector.backbone.state_dict()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_yolox_takes_a_partial_network_once_its_misprint_is_mended(folder: Path) -> None:
    (folder / "printed.py").write_text(PARTIAL.format(key="arch"))
    with pytest.raises(ConfigError, match="write depth=50"):
        load_experiment(folder / "printed.py")
    (folder / "mended.py").write_text(PARTIAL.format(key="depth"))
    found = load_experiment(folder / "mended.py")
    assert found.weights == (Pretrained(module="backbone", checkpoint="mmcls://cspresnext50", prefix="backbone."),)
    backbone = found.model.args["backbone"]
    assert backbone == Spec.of("CSPResNet", kind="resnext", depth=50, out_indices=(1, 2, 3), norm=Spec.of("BN"))
