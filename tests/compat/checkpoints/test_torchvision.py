"""torchvision's detectors: names, the order of classes, and detections equal to its own."""

from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

import fastdet.build  # noqa: F401 - registers every part
from fastdet.compat.checkpoints import Checkpoint, load_into
from fastdet.compat.checkpoints.origins import fit
from fastdet.compat.checkpoints.origins.torchvision import COCO_IDS
from fastdet.compat.models import translate_model
from fastdet.config.configdict import adopt
from fastdet.registry import MODEL_PARTS, build
from fastdet.structures import Batch

SIZE = (128, 256)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
PREPROCESS = {"type": "DetDataPreprocessor", "mean": MEAN, "std": STD, "bgr_to_rgb": True, "pad_size_divisor": 32}
POOLING = {"type": "RoIAlign", "sampling_ratio": 2, "aligned": False}


def extractor(size: int) -> dict[str, Any]:
    return {
        "type": "SingleRoIExtractor", "roi_layer": {**POOLING, "output_size": size}, "out_channels": 256,
        "featmap_strides": [4, 8, 16, 32],
    }  # fmt: skip


def body(depth: int) -> dict[str, Any]:
    channels = [64, 128, 256, 512] if depth < 50 else [256, 512, 1024, 2048]
    return {
        "data_preprocessor": PREPROCESS,
        "backbone": {"type": "ResNet", "depth": depth, "num_stages": 4, "out_indices": (0, 1, 2, 3)},
        "neck": {"type": "FPN", "in_channels": channels, "out_channels": 256, "num_outs": 5},
    }


def mask_rcnn(depth: int, classes: int) -> dict[str, Any]:
    """torchvision's settings in MMDetection's words."""
    return body(depth) | {
        "type": "MaskRCNN",
        "rpn_head": {
            "type": "RPNHead", "in_channels": 256,
            "anchor_generator": {"type": "AnchorGenerator", "scales": [8], "ratios": [0.5, 1.0, 2.0],
                                 "strides": [4, 8, 16, 32, 64]},
        },
        "roi_head": {
            "type": "StandardRoIHead", "bbox_roi_extractor": extractor(7), "mask_roi_extractor": extractor(14),
            "bbox_head": {"type": "Shared2FCBBoxHead", "num_classes": classes},
            "mask_head": {"type": "FCNMaskHead", "num_classes": classes},
        },
        "test_cfg": {
            "rpn": {"nms_pre": 1000, "max_per_img": 1000, "nms": {"type": "nms", "iou_threshold": 0.7},
                    "min_bbox_size": 0},
            "rcnn": {"score_thr": 0.05, "nms": {"type": "nms", "iou_threshold": 0.5}, "max_per_img": 100},
        },
    }  # fmt: skip


def faster_rcnn(depth: int, classes: int) -> dict[str, Any]:
    model = mask_rcnn(depth, classes)
    kept = {key: value for key, value in model["roi_head"].items() if not key.startswith("mask")}
    return model | {"type": "FasterRCNN", "roi_head": kept}


def retinanet(depth: int, classes: int) -> dict[str, Any]:
    model = body(depth)
    model["neck"] |= {"start_level": 1, "add_extra_convs": "on_output", "relu_before_extra_convs": True}
    return model | {
        "type": "RetinaNet",
        "bbox_head": {
            "type": "RetinaHead", "num_classes": classes, "in_channels": 256,
            "loss_cls": {"type": "FocalLoss", "use_sigmoid": True},
        },
        "test_cfg": {"nms_pre": 1000, "score_thr": 0.05, "nms": {"type": "nms", "iou_threshold": 0.5},
                     "max_per_img": 300, "min_bbox_size": 0},
    }  # fmt: skip


def ours(model: dict[str, Any]) -> nn.Module:
    spec, _ = translate_model(adopt(model))
    built: nn.Module = build(spec, MODEL_PARTS, role="detector")
    return built.eval()


def shapes(weights: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in weights.items() if "num_batches_tracked" not in name}


NAMED = [
    (detection.fasterrcnn_resnet50_fpn, faster_rcnn),
    (detection.maskrcnn_resnet50_fpn, mask_rcnn),
    (detection.retinanet_resnet50_fpn, retinanet),
]


@pytest.mark.parametrize(("theirs", "model"), NAMED)
@pytest.mark.parametrize("classes", [80, 90])
def test_every_weight_of_a_published_detector_has_its_place(theirs: Any, model: Any, classes: int) -> None:
    with torch.device("meta"):
        weights = theirs(weights=None, weights_backbone=None, num_classes=91).state_dict()
        own = ours(model(50, classes)).state_dict()
    assert shapes(fit(weights, own).weights) == shapes(own)


OLD_NAMES = {
    "backbone.fpn.inner_blocks.2.weight": "neck.lateral_convs.2.conv.weight",
    "backbone.fpn.layer_blocks.0.bias": "neck.fpn_convs.0.conv.bias",
    "backbone.fpn.extra_blocks.p7.weight": "neck.fpn_convs.4.conv.weight",
    "rpn.head.conv.weight": "rpn_head.rpn_conv.weight",
    "roi_heads.mask_head.mask_fcn3.bias": "roi_head.mask_head.convs.2.conv.bias",
    "head.classification_head.conv.6.weight": "bbox_head.cls_convs.3.conv.weight",
    "head.regression_head.conv.2.weight": "bbox_head.reg_convs.1.conv.weight",
}
SECOND_VERSION = {
    "rpn.head.conv.0.0.weight": "rpn_head.rpn_conv.0.conv.weight",
    "rpn.head.conv.1.0.weight": "rpn_head.rpn_conv.1.conv.weight",
    "backbone.fpn.inner_blocks.0.1.running_mean": "neck.lateral_convs.0.bn.running_mean",
    "roi_heads.box_head.3.1.weight": "roi_head.bbox_head.shared_convs.3.bn.weight",
    "roi_heads.box_head.5.weight": "roi_head.bbox_head.shared_fcs.0.weight",
    "head.regression_head.conv.2.1.bias": "bbox_head.reg_convs.2.gn.bias",
}


@pytest.mark.parametrize("names", [OLD_NAMES, SECOND_VERSION])
def test_names_of_other_releases_and_of_the_second_version_are_known(names: dict[str, str]) -> None:
    found = fit({name: torch.zeros(1) for name in names}, {})
    assert dict(found.renamed) == names


def test_the_background_goes_from_the_first_class_to_the_last() -> None:
    weights = {
        "rpn.head.cls_logits.bias": torch.zeros(3),
        "roi_heads.box_predictor.cls_score.bias": torch.tensor([0.0, 1, 2]),
        "roi_heads.box_predictor.bbox_pred.bias": torch.arange(12.0),
        "roi_heads.mask_predictor.mask_fcn_logits.bias": torch.tensor([0.0, 1, 2]),
    }
    found = fit(weights, {}).weights
    assert found["roi_head.bbox_head.fc_cls.bias"].tolist() == [1, 2, 0]
    assert found["roi_head.bbox_head.fc_reg.bias"].tolist() == [4, 5, 6, 7, 8, 9, 10, 11]
    assert found["roi_head.mask_head.conv_logits.bias"].tolist() == [1, 2]


def test_a_dense_head_loses_the_background_of_every_anchor() -> None:
    weights = {
        "head.classification_head.cls_logits.bias": torch.arange(6.0),  # two anchors of three classes
        "head.regression_head.bbox_reg.bias": torch.arange(8.0),
    }
    found = fit(weights, {}).weights
    assert found["bbox_head.retina_cls.bias"].tolist() == [1, 2, 4, 5]
    assert found["bbox_head.retina_reg.bias"].tolist() == list(range(8))


def test_a_model_of_80_classes_takes_cocos_own() -> None:
    assert len(COCO_IDS) == 80
    assert (COCO_IDS[0], COCO_IDS[11], COCO_IDS[-1]) == (1, 13, 90)  # person, stop sign, toothbrush
    weights = {"rpn.head.x": torch.zeros(1), "roi_heads.box_predictor.cls_score.bias": torch.arange(91.0)}
    own = {"roi_head.bbox_head.fc_cls.bias": torch.zeros(81)}
    assert fit(weights, own).weights["roi_head.bbox_head.fc_cls.bias"].tolist() == [*map(float, COCO_IDS), 0]


def unrounded(strides: tuple[int, ...], scales: tuple[float, ...]) -> list[Tensor]:
    """A cell's anchors as ours; torchvision rounds them to whole pixels."""
    cells = []
    for stride in strides:
        sides = [(r**-0.5 * s * stride, r**0.5 * s * stride) for r in (0.5, 1.0, 2.0) for s in scales]
        cells.append(torch.tensor([[-w / 2, -h / 2, w / 2, h / 2] for w, h in sides]))
    return cells


def randomise(model: nn.Module, spreads: dict[str, float]) -> None:
    """Random weights; one pass scales those of every layer so that its output has a spread of 1, or the one given."""
    generator = torch.Generator().manual_seed(0)
    seen: set[nn.Module] = set()
    names = {module: name for name, module in model.named_modules()}

    def scale(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        if module in seen:
            return output
        seen.add(module)
        wanted = next((value for part, value in spreads.items() if part in names[module]), 1.0)
        module.weight.mul_(wanted / output.std())
        return module.forward(*inputs)

    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.ndim > 1:
                value.normal_(generator=generator)
            elif name.endswith("running_var"):
                value.uniform_(0.5, 1.5, generator=generator)
            elif name.endswith("bias") or name.endswith("running_mean"):
                value.normal_(0, 0.1, generator=generator)
        hooks = [m.register_forward_hook(scale) for m in names if isinstance(m, nn.Conv2d | nn.Linear)]
        model.eval()([torch.rand(3, *SIZE, generator=generator)])
        for hook in hooks:
            hook.remove()


def their_backbone(**options: Any) -> nn.Module:
    return resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=partial(FrozenBatchNorm2d, eps=1e-5), **options
    )


def their_rcnn() -> nn.Module:
    """A small Mask R-CNN of torchvision's."""
    model = detection.MaskRCNN(
        their_backbone(), num_classes=5, min_size=SIZE[0], max_size=SIZE[1],
        rpn_anchor_generator=AnchorGenerator(((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5),
    )  # fmt: skip
    model.rpn.anchor_generator.cell_anchors = unrounded((4, 8, 16, 32, 64), (8,))
    randomise(model, {"cls_score": 2.0, "bbox_pred": 0.5})
    return model.eval()


def their_retinanet() -> nn.Module:
    backbone = their_backbone(returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256))
    sizes = tuple((x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (32, 64, 128, 256, 512))
    model = detection.RetinaNet(
        backbone, num_classes=5, min_size=SIZE[0], max_size=SIZE[1],
        anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5),
    )  # fmt: skip
    model.anchor_generator.cell_anchors = unrounded((8, 16, 32, 64, 128), (4, 4 * 2 ** (1 / 3), 4 * 2 ** (2 / 3)))
    randomise(model, {"cls_logits": 2.0, "bbox_reg": 0.3})
    with torch.no_grad():  # Training teaches the background's output never to answer.
        model.head.classification_head.cls_logits.bias.view(9, 5)[:, 0] = -50
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize(("theirs", "model"), [(their_rcnn, mask_rcnn), (their_retinanet, retinanet)])
def test_detections_equal_those_of_torchvisions_own_model(theirs: Any, model: Any) -> None:
    """With random weights, at settings where the two agree: anchors not rounded, pictures that need no resizing."""
    reference, detector = theirs(), ours(model(18, 4))
    weights = OrderedDict(reference.state_dict())
    report = load_into(detector, Checkpoint(path=Path("torchvision.pth"), state_dict=weights), strict=True)
    assert report.complete
    rgb = torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        (expected,) = reference([rgb])
        found = detector.predict(Batch(255 * rgb.flip(0)[None], torch.tensor([SIZE]), None, ()))
    count = int(found.count)
    assert count == len(expected["scores"]) > 20
    assert len(expected["labels"].unique()) > 1
    torch.testing.assert_close(found.scores[0, :count], expected["scores"], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.boxes[0, :count], expected["boxes"], rtol=1e-3, atol=1e-2)
    assert torch.equal(found.labels[0, :count] + 1, expected["labels"])
