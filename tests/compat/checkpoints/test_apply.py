"""Loading weights into models: what fits, what is renamed, what is refused."""

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from fastdet.compat.checkpoints import Checkpoint, load_into
from fastdet.compat.checkpoints.renames import renamed
from fastdet.utils.errors import CheckpointError


def checkpoint(weights: dict[str, Tensor], **meta: object) -> Checkpoint:
    return Checkpoint(path=Path("epoch_1.pth"), state_dict=OrderedDict(weights), meta=dict(meta))


def filled(module: nn.Module, value: float) -> dict[str, Tensor]:
    """The module's state dict with every tensor set to one value."""
    return {name: torch.full_like(tensor, value) for name, tensor in module.state_dict().items()}


def test_every_weight_of_a_fitting_file_is_copied(network: nn.Module) -> None:
    report = load_into(network, checkpoint(filled(network, 2.0)), strict=True)
    assert report.complete
    assert len(report.loaded) == len(network.state_dict())
    assert all((value == 2).all() for value in network.state_dict().values())
    assert str(report) == "9 weights from epoch_1.pth"


def test_strict_loading_shows_both_sides_with_close_names(network: nn.Module) -> None:
    weights = filled(network, 2.0)
    weights["head.wieght"] = weights.pop("head.weight")
    before = network.state_dict()["backbone.0.weight"].clone()
    with pytest.raises(CheckpointError) as caught:
        load_into(network, checkpoint(weights), strict=True)
    assert str(caught.value) == (
        "epoch_1.pth does not fit the model\n"
        "  1 weights are not in the file:\n"
        "    head.weight  (close: head.wieght)\n"
        "  1 of the file are not in the model:\n"
        "    head.wieght  (close: head.weight)"
    )
    assert torch.equal(network.state_dict()["backbone.0.weight"], before)


def test_loose_loading_reports_the_same(network: nn.Module) -> None:
    weights = filled(network, 2.0)
    weights["head.wieght"] = weights.pop("head.weight")
    report = load_into(network, checkpoint(weights), strict=False)
    assert (report.missing, report.unexpected, report.complete) == (("head.weight",), ("head.wieght",), False)
    assert "1 not in the file: head.weight" in str(report)


def test_counters_of_batch_norm_may_be_missing(network: nn.Module) -> None:
    weights = filled(network, 2.0)
    del weights["backbone.1.num_batches_tracked"]
    assert load_into(network, checkpoint(weights), strict=True).complete


def test_a_head_for_other_classes_is_refused_unless_it_starts_anew(network: nn.Module) -> None:
    weights = filled(network, 2.0) | {"head.weight": torch.zeros(81, 2), "head.bias": torch.zeros(81)}
    with pytest.raises(CheckpointError) as caught:
        load_into(network, checkpoint(weights, CLASSES=("cat", "dog")), strict=True)
    assert "head.weight: [81, 2] in the file, [3, 2] in the model" in str(caught.value)
    assert "the file's classes: cat, dog" in str(caught.value)
    old = network.state_dict()["head.weight"].clone()
    report = load_into(network, checkpoint(weights), strict=True, reinit_head=True)
    assert [m.name for m in report.mismatched] == ["head.weight", "head.bias"]
    assert torch.equal(network.state_dict()["head.weight"], old)
    assert (network.state_dict()["backbone.0.weight"] == 2).all()


def test_a_prefix_selects_one_module_of_the_file(network: nn.Module) -> None:
    weights = filled(network, 2.0)
    report = load_into(network.get_submodule("backbone"), checkpoint(weights), strict=True, prefix="backbone")
    assert report.complete
    assert (network.state_dict()["backbone.0.weight"] == 2).all()
    with pytest.raises(CheckpointError, match=r"prefix 'neck.'\n  the names begin with: backbone, head"):
        load_into(network, checkpoint(weights), strict=True, prefix="neck.")


def test_a_file_of_another_model_is_refused_even_loosely(network: nn.Module) -> None:
    with pytest.raises(CheckpointError, match="no weight has the name and shape"):
        load_into(network, checkpoint({"other.weight": torch.zeros(1)}), strict=False)


def test_torchvisions_classifiers_load_without_their_last_layer() -> None:
    source = ResNet(BasicBlock, [1, 1, 1, 1])
    backbone = ResNet(BasicBlock, [1, 1, 1, 1])
    backbone.fc = nn.Identity()
    report = load_into(backbone, checkpoint(source.state_dict()), strict=False)
    assert report.missing == ()
    assert report.unexpected == ("fc.weight", "fc.bias")
    assert torch.equal(backbone.conv1.weight, source.conv1.weight)


RPN = ("rpn_conv.weight", "rpn_cls.weight", "rpn_reg.weight")


def test_the_rpn_head_of_2x_becomes_a_single_stage_head() -> None:
    file = ["backbone.conv1.weight", *(f"rpn_head.{n}" for n in RPN)]
    model = ["backbone.conv1.weight", *(f"bbox_head.{n}" for n in RPN)]
    assert renamed(file, model) == {f"rpn_head.{n}": f"bbox_head.{n}" for n in RPN}
    assert renamed(model, model) == {}


def test_an_rpn_of_3x_starts_the_first_stage_of_a_two_stage_detector() -> None:
    file = [f"bbox_head.{n}" for n in RPN]
    model = [*(f"rpn_head.{n}" for n in RPN), "roi_head.bbox_head.fc_cls.weight"]
    assert renamed(file, model) == {f"bbox_head.{n}": f"rpn_head.{n}" for n in RPN}


def test_a_dense_head_is_not_taken_for_an_rpn() -> None:
    assert renamed(["bbox_head.retina_cls.weight"], ["rpn_head.rpn_cls.weight"]) == {}


def test_renamed_weights_are_loaded_and_reported() -> None:
    model = nn.ModuleDict({"bbox_head": nn.Linear(2, 2)})
    weights = {"rpn_head.weight": torch.ones(2, 2), "rpn_head.bias": torch.ones(2)}
    report = load_into(model, checkpoint(weights), strict=True)
    assert report.complete
    assert report.renamed[0] == ("rpn_head.weight", "bbox_head.weight")
    assert (model["bbox_head"].weight == 1).all()
