"""Reading pure-Python configs: bases by import, classes as type names, MMEngine's update and merge, errors."""

import copy
import sys
from collections.abc import Callable

import pytest

from fastdet.compat import load_experiment
from fastdet.config.file import ConfigDict, load_config
from fastdet.registry import Source
from fastdet.utils.errors import ConfigError

from .conftest import Write

MODEL = """\
from mmcv.ops import RoIAlign, nms
from mmengine.model.weight_init import PretrainedInit
from torch.nn import BatchNorm2d
from torch.optim import SGD

from mmdet.models import FPN, ResNet
from mmdet.models.detectors.retinanet import RetinaNet

model = dict(
    type=RetinaNet,
    backbone=dict(
        type=ResNet, depth=50, norm_cfg=dict(type=BatchNorm2d, requires_grad=True),
        init_cfg=dict(type=PretrainedInit, checkpoint="torchvision://resnet50")),
    neck=dict(type=FPN, in_channels=[256, 512]),
    test_cfg=dict(nms=dict(type=nms, iou_threshold=0.5)))
optimizer = dict(type=SGD, lr=0.01)
widths = [64, 128]
"""
HEAD = "from mmengine.config import read_base\n\nwith read_base():\n    from .base import *\n\n"


@pytest.fixture
def child(write: Write) -> Callable[[str], ConfigDict]:
    """Reads a config with these lines after the import of the base; its first line is line 6."""
    write("base.py", MODEL)
    return lambda text: load_config(write("child.py", HEAD + text))


def test_imported_classes_become_the_names_that_text_configs_write(write: Write) -> None:
    config = load_config(write("a.py", MODEL))
    assert config.model == {
        "type": "RetinaNet",
        "backbone": {
            "type": "ResNet",
            "depth": 50,
            "norm_cfg": {"type": "BN", "requires_grad": True},
            "init_cfg": {"type": "Pretrained", "checkpoint": "torchvision://resnet50"},
        },
        "neck": {"type": "FPN", "in_channels": [256, 512]},
        "test_cfg": {"nms": {"type": "nms", "iou_threshold": 0.5}},
    }
    assert config.optimizer.type == "SGD"
    assert list(config) == ["model", "optimizer", "widths"]


def test_nothing_of_the_frameworks_is_imported(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mmdet", "mmcv", "mmengine"):
        monkeypatch.setitem(sys.modules, name, None)
    assert load_config(write("a.py", MODEL)).model.type == "RetinaNet"


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ("import torch.nn as nn\nx = dict(type=nn.GroupNorm)", "GN"),
        ("import torch\nx = dict(type=torch.optim.AdamW)", "AdamW"),
        ("from torch.nn.modules.batchnorm import SyncBatchNorm\nx = dict(type=SyncBatchNorm)", "SyncBN"),
        ("from mmcv.ops import ModulatedDeformConv2dPack as DCN\nx = dict(type=DCN)", "DCNv2"),
        ("from mmpretrain.models import ConvNeXt\nx = dict(type=ConvNeXt)", "mmpretrain.ConvNeXt"),
        ("import mmdet.models\nx = dict(type=mmdet.models.FPN)", "FPN"),
    ],
)
def test_names_are_found_whatever_way_they_are_imported(lines: str, name: str, write: Write) -> None:
    config = load_config(write("a.py", lines))
    assert config.x.type == name
    assert list(config) == ["x"]


def test_update_goes_into_dicts_of_a_base(child: Callable[[str], ConfigDict]) -> None:
    config = child("model.update(dict(backbone=dict(depth=101)))\noptimizer.update(lr=0.02, momentum=0.9)\n")
    assert config.model.backbone.depth == 101
    assert config.model.backbone.norm_cfg.type == "BN"
    assert config.optimizer == {"type": "SGD", "lr": 0.02, "momentum": 0.9}
    assert config.model.backbone.sources["depth"] == Source("child.py", 6)
    assert config.model.backbone.sources["type"] == Source("base.py", 12)
    assert config.optimizer.sources["lr"] == Source("child.py", 7)
    assert config.place("widths") == Source("base.py", 17)


def test_update_replaces_inner_dicts_of_the_file_itself(write: Write) -> None:
    config = load_config(write("a.py", "import mmdet\nx = dict(a=dict(b=1, c=2))\nx.update(dict(a=dict(b=3)))\n"))
    assert config.x == {"a": {"b": 3}}


@pytest.mark.parametrize("method", ["update", "merge"])
def test_a_delete_mark_drops_the_bases_dict(method: str, child: Callable[[str], ConfigDict]) -> None:
    config = child(f"model.{method}(dict(backbone=dict(_delete_=True, type='Swin'), neck=dict(num_outs=5)))\n")
    assert config.model.backbone == {"type": "Swin"}
    assert config.model.neck == {"type": "FPN", "in_channels": [256, 512], "num_outs": 5}


def test_variables_are_deleted_taken_out_and_set_as_in_python(child: Callable[[str], ConfigDict]) -> None:
    config = child(
        "detector = model\ndetector.pop('neck')\ndetector['init_cfg'] = dict(type='X')\n"
        "detector.backbone.depth = 18\nwidths[0] = 32\n"
        "del model, optimizer\nmodel = dict(type='Track', inner=detector)\n"
    )
    assert list(config) == ["widths", "detector", "model"]
    assert config.widths == [32, 128]
    assert config.model.inner.backbone.depth == 18
    assert "neck" not in config.model.inner
    assert config.model.inner.sources["init_cfg"] == Source("child.py", 8)


def test_a_childs_changes_do_not_reach_its_siblings(child: Callable[[str], ConfigDict], write: Write) -> None:
    changed = child("copied = __import__('copy').deepcopy(model)\nmodel.backbone.update(depth=18)\n")
    assert changed.copied.backbone.depth == 50
    assert load_config(write("other.py", HEAD)).model.backbone.depth == 50


def test_single_names_and_aliases_are_imported(write: Write) -> None:
    write("pkg/_base_/base.py", MODEL)
    text = "with read_base():\n    from ..._base_.base import model as detector, widths\n"
    config = load_config(write("pkg/a/b/child.py", text))
    assert list(config) == ["detector", "widths"]


def test_a_base_can_be_named_by_its_package(write: Write) -> None:
    write("mypack/configs/base.py", MODEL)
    text = "with read_base():\n    from mypack.configs.base import *\n"
    assert load_config(write("mypack/configs/deep/child.py", text)).model.type == "RetinaNet"


def test_names_of_a_base_reach_its_childrens_children(write: Write) -> None:
    write("base.py", MODEL)
    write("middle.py", HEAD)
    config = load_config(write("child.py", HEAD.replace(".base", ".middle") + "extra = dict(type=ResNet)\n"))
    assert config.extra.type == "ResNet"


def test_a_users_module_is_noted_for_import(write: Write) -> None:
    text = "from mmdet.models import FPN\nfrom my_parts.heads import MyHead, unused\nx = [dict(type=MyHead)]\n"
    config = load_config(write("a.py", text))
    assert config.x == [{"type": "MyHead"}]
    assert config.custom_imports == {"imports": ["my_parts.heads"]}


def test_the_standard_library_works(write: Write) -> None:
    config = load_config(
        write("a.py", "import math, mmdet\nfrom os.path import join\nx = join('a', str(math.floor(2.5)))")
    )
    assert config == {"x": "a/2"}


def test_text_and_pure_python_files_may_inherit_from_each_other(write: Write) -> None:
    write("base.py", MODEL)
    write("text.py", "_base_ = 'base.py'\nmodel = dict(backbone=dict(depth=18))\n")
    config = load_config(write("child.py", HEAD.replace(".base", ".text") + "model.backbone.update(style='caffe')\n"))
    assert config.model.backbone.depth == 18
    assert config.model.backbone.type == "ResNet"
    assert config.model.backbone.style == "caffe"


def test_overrides_apply_to_pure_python_configs(write: Write) -> None:
    assert load_config(write("a.py", MODEL), ["model.backbone.depth=18"]).model.backbone.depth == 18


def test_a_model_that_loses_its_type_is_warned_of(child: Callable[[str], ConfigDict]) -> None:
    with pytest.warns(UserWarning, match=r"child.py:6: `model = dict\(...\)` replaces(?s:.*)`model.update\(...\)`"):
        child("model = dict(backbone=dict(depth=18))\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("with read_base():\n    from .nope import *\n", r"base config file not found: .*nope.py\n  a.py:2"),
        ("with read_base():\n    import base\n", r"there can be only `from(?s:.*)a.py:2"),
        ("with read_base():\n    from .base import modle\n", r"no 'modle' in base.py: did you mean 'model'"),
        ("from .base import model\n", r"put the line into `with read_base\(\):`\n  a.py:1"),
        ("from mmdet.models import *\n", r"put the line into `with read_base\(\):`"),
        ("with read_base():\n    from .base import *\n_base_ = 'x.py'\n", r"not in `_base_`\n  a.py:3"),
        ("from mmdet.x import f\nx = f(2)\n", r"mmdet.x.f is called here(?s:.*)imported in a.py:1"),
        ("import mmdet\nx = y\n", r"NameError: name 'y' is not defined\n  a.py:2   x = y"),
        ("with read_base():\n    from .a import *\n", r"inherit in a circle"),
    ],
)
def test_mistakes_are_told_with_their_place(text: str, message: str, write: Write) -> None:
    write("base.py", MODEL)
    with pytest.raises(ConfigError, match=message):
        load_config(write("a.py", text))


def test_read_dicts_can_be_copied(child: Callable[[str], ConfigDict]) -> None:
    config = child("again = dict(model)\n")
    assert copy.deepcopy(config) == config
    assert config.again == config.model


def test_a_pure_python_config_gives_the_experiment_of_its_text_twin(write: Write) -> None:
    heads = "anchor_generator=dict(type={0}, strides=[8, 16, 32, 64, 128], ratios=[1.0], scales=[4])"
    model = "model = dict(type={0}, backbone=dict(type={1}, depth=18, norm_cfg=dict(type={2})), neck=dict(type={3}, "
    model += "in_channels=[64, 128, 256, 512], out_channels=64, start_level=1, num_outs=5), "
    model += f"bbox_head=dict(type={{4}}, num_classes=3, in_channels=64, {heads.format('{5}')}), "
    model += "train_cfg=dict(assigner=dict(type='MaxIoUAssigner')), "
    model += "test_cfg=dict(max_per_img=9, nms=dict(type='nms', iou_threshold=0.5)))\n"
    names = ["RetinaNet", "ResNet", "BatchNorm2d", "FPN", "RetinaHead", "AnchorGenerator"]
    imports = "from torch.nn import BatchNorm2d\n"
    imports += "from mmdet.models import (AnchorGenerator, FPN, ResNet, RetinaHead, RetinaNet)\n"
    optimizer = "optim_wrapper = dict(type={0}, optimizer=dict(type={1}, lr=0.01))\n"
    pure = imports + "from mmengine.optim import OptimWrapper\nfrom torch.optim import SGD\n" + model.format(*names)
    names[2] = "BN"
    text = model.format(*map(repr, names)) + optimizer.format("'OptimWrapper'", "'SGD'")
    first = load_experiment(write("pure.py", pure + optimizer.format("OptimWrapper", "SGD")))
    assert first == load_experiment(write("text.py", text))
