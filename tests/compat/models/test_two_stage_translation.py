"""Faster and Mask R-CNN's model dicts become Specs; what cannot become one is an error with its place."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fastdet.compat.models import translate_model
from fastdet.config.file import load_config
from fastdet.config.schema import Pretrained
from fastdet.models.backbones import ResNet
from fastdet.models.detectors import TwoStageDetector
from fastdet.registry import MODEL_PARTS, Spec, build
from fastdet.utils.errors import ConfigError, UnsupportedConfig
from tests.golden.configs.two_stage import faster_rcnn, mask_rcnn

R18 = [64, 128, 256, 512]
Change = Callable[[dict[str, Any]], Any]


def translated(change: Change, masks: bool = True) -> Spec:
    model = copy.deepcopy((mask_rcnn if masks else faster_rcnn)(18, R18))
    change(model)
    return translate_model(model)[0]


def test_a_mask_rcnn_becomes_a_two_stage_detector_of_its_parts() -> None:
    spec = translated(lambda model: None)
    assert spec.type == "TwoStageDetector"
    head, stage = spec.args["roi_head"], spec.args["roi"]
    assert head.args["bbox_head"] == Spec.of("ConvFCBBoxHead", num_shared_fcs=2)
    assert head.args["mask_head"] == Spec.of("FCNMaskHead")
    assert head.args["mask_roi_extractor"] == Spec.of(
        "SingleRoIExtractor", featmap_strides=(4, 8, 16, 32), output_size=14
    )
    assert stage.args["sampler"] == Spec.of("RandomSampler", num=512, pos_fraction=0.25)
    assert stage.args["coder"] == Spec.of("DeltaXYWHBBoxCoder", target_stds=(0.1, 0.1, 0.2, 0.2))
    assert stage.args["postprocess"] == Spec.of("RoIPostprocess", score_thr=0.05, iou_threshold=0.5, max_per_img=100)


def test_soft_nms_becomes_a_part_of_the_postprocessing() -> None:
    def change(model: dict[str, Any]) -> None:
        model["test_cfg"]["rcnn"]["nms"] = {"type": "soft_nms", "iou_threshold": 0.5, "min_score": 0.05}

    args = translated(change).args["roi"].args["postprocess"].args
    assert args["iou_threshold"] == 0.5
    assert args["soft_nms"] == Spec.of("SoftNMS", min_score=0.05)


def test_written_and_omitted_defaults_are_equal() -> None:
    def omit(model: dict[str, Any]) -> None:
        box, mask = model["roi_head"]["bbox_head"], model["roi_head"]["mask_head"]
        for key in ("in_channels", "fc_out_channels", "roi_feat_size", "num_classes", "bbox_coder", "loss_cls"):
            del box[key]
        for key in ("num_convs", "in_channels", "conv_out_channels", "num_classes", "loss_mask"):
            del mask[key]
        del model["test_cfg"]["rcnn"]["mask_thr_binary"]
        del model["train_cfg"]["rcnn"]["pos_weight"]

    assert translated(omit) == translated(lambda model: None)


def test_every_setting_reaches_its_part() -> None:
    def change(model: dict[str, Any]) -> None:
        roi = model["roi_head"]
        roi["bbox_roi_extractor"]["roi_layer"] = {
            "type": "RoIAlign",
            "output_size": 7,
            "sampling_ratio": 2,
            "aligned": False,
        }
        roi["bbox_roi_extractor"]["finest_scale"] = 28
        roi["bbox_head"] |= {
            "type": "Shared4Conv1FCBBoxHead",
            "conv_out_channels": 64,
            "norm_cfg": {"type": "GN", "num_groups": 32},
            "reg_class_agnostic": True,
            "reg_decoded_bbox": True,
            "loss_bbox": {"type": "SmoothL1Loss", "beta": 0.5},
        }
        roi["mask_head"] |= {"class_agnostic": True, "upsample_cfg": {"type": "bilinear", "scale_factor": 4}}
        model["train_cfg"]["rcnn"] |= {"pos_weight": 2.0, "mask_size": 56}
        model["test_cfg"]["rcnn"] |= {"mask_thr_binary": 0.4}

    spec = translated(change)
    head, stage = spec.args["roi_head"], spec.args["roi"]
    assert head.args["bbox_roi_extractor"] == Spec.of(
        "SingleRoIExtractor",
        featmap_strides=(4, 8, 16, 32),
        output_size=7,
        sampling_ratio=2,
        aligned=False,
        finest_scale=28,
    )
    assert head.args["bbox_head"] == Spec.of(
        "ConvFCBBoxHead",
        num_shared_convs=4,
        num_shared_fcs=1,
        conv_out_channels=64,
        norm=Spec.of("GN", num_groups=32),
        reg_class_agnostic=True,
    )
    assert head.args["mask_head"] == Spec.of("FCNMaskHead", class_agnostic=True, upsample="bilinear", scale_factor=4)
    assert stage.args["criterion"].args["loss_bbox"] == Spec.of("SmoothL1Loss", beta=0.5)
    assert stage.args["criterion"].args["reg_decoded_bbox"] is True
    assert stage.args["criterion"].args["pos_weight"] == 2.0
    assert stage.args["mask_criterion"].args["mask_size"] == 56
    assert stage.args["mask_thr_binary"] == 0.4
    with torch.device("meta"):
        detector = build(spec, MODEL_PARTS)
    assert detector.mask_threshold == 0.4
    assert detector.state_dict()["roi_head.mask_head.conv_logits.weight"].shape == (1, 256, 1, 1)


def test_the_c4_variant_shares_a_resnet_stage_between_its_heads() -> None:
    def change(model: dict[str, Any]) -> None:
        roi = model["roi_head"]
        roi["shared_head"] = {"type": "ResLayer", "depth": 18, "stage": 3, "style": "caffe", "norm_eval": True}
        roi["bbox_head"] |= {"type": "BBoxHead", "with_avg_pool": True, "in_channels": 512}
        del roi["bbox_head"]["fc_out_channels"]
        roi["mask_roi_extractor"] = None
        roi["mask_head"] |= {"num_convs": 0, "in_channels": 512}

    spec = translated(change)
    assert spec.args["roi_head"].args["shared_head"] == Spec.of("ResLayer", depth=18, style="caffe", norm=Spec.of("BN"))
    with torch.device("meta"):
        head = build(spec, MODEL_PARTS).roi_head
    assert head.mask_roi_extractor is head.bbox_roi_extractor
    assert head.bbox_head.fc_cls.in_features == 512


def test_weights_of_parts_are_collected() -> None:
    model = faster_rcnn(18, R18)
    model["backbone"]["init_cfg"] = {"type": "Pretrained", "checkpoint": "torchvision://resnet18"}
    model["roi_head"]["bbox_head"]["init_cfg"] = {"type": "Pretrained", "checkpoint": "heads.pth", "prefix": "roi"}
    assert translate_model(model)[1] == (
        Pretrained(module="backbone", checkpoint="torchvision://resnet18"),
        Pretrained(module="roi_head.bbox_head", checkpoint="heads.pth", prefix="roi."),
    )


def test_without_train_cfg_the_detector_predicts_only() -> None:
    model = faster_rcnn(18, R18) | {"train_cfg": None}
    with torch.device("meta"):
        detector = build(translate_model(model)[0], MODEL_PARTS)
    assert isinstance(detector, TwoStageDetector)
    assert isinstance(detector.backbone, ResNet)
    assert detector.roi.criterion is None


CHANGES: list[tuple[Change, str]] = [
    (lambda m: m.update(type="SparseRCNN"), "'SparseRCNN'"),
    (lambda m: m["roi_head"].update(type="PISARoIHead"), "roi_head 'PISARoIHead'"),
    (lambda m: m["roi_head"]["bbox_head"].update(type="SCNetBBoxHead"), "bbox_head 'SCNetBBoxHead'"),
    (lambda m: m["roi_head"]["mask_head"].update(type="HTCMaskHead"), "mask_head 'HTCMaskHead'"),
    (lambda m: m["roi_head"]["mask_head"].update(upsample_cfg={"type": "pixel_shuffle"}), "type='pixel_shuffle'"),
    (lambda m: m["roi_head"]["bbox_roi_extractor"]["roi_layer"].update(type="RoIPool"), "roi_layer 'RoIPool'"),
    (lambda m: m["rpn_head"].update(type="FCOSHead"), "rpn_head 'FCOSHead'"),
    (lambda m: m["test_cfg"]["rcnn"]["nms"].update(type="nms_match"), "type='nms_match'"),
    (lambda m: m["train_cfg"]["rcnn"].update(sampler={"type": "PseudoSampler"}), "PseudoSampler"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES, ids=[message for _, message in CHANGES])
def test_what_fastdet_does_not_run_is_unsupported(change: Change, message: str) -> None:
    with pytest.raises(UnsupportedConfig, match=message):
        translated(change)


MISTAKES: list[tuple[Change, str]] = [
    (lambda m: m["roi_head"].update(bbox_haed={}), "unknown argument 'bbox_haed'"),
    (lambda m: m["roi_head"]["bbox_head"].update(num_shared_fcs=3), "'num_shared_fcs' for Shared2FCBBoxHead"),
    (lambda m: m["roi_head"]["mask_head"].update(num_conv=2), "did you mean 'num_convs'"),
    (lambda m: m["train_cfg"]["rcnn"].update(mask_sise=2), "did you mean 'mask_size'"),
    (lambda m: m["train_cfg"]["rcnn"].pop("mask_size"), "needs mask_size"),
    (lambda m: m["test_cfg"].pop("rcnn"), "needs test_cfg.rcnn"),
    (lambda m: m["test_cfg"]["rcnn"].pop("max_per_img"), "test_cfg.rcnn needs max_per_img"),
    (lambda m: m["roi_head"].pop("bbox_head"), "bbox_head must be a dict with a type"),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_mistakes_name_what_is_wrong(change: Change, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        translated(change)


def test_messages_name_file_and_line(tmp_path: Path) -> None:
    model = faster_rcnn(18, R18)
    del model["roi_head"]
    path = tmp_path / "model.py"
    path.write_text(
        f"model = {model!r}\n"
        "model.update(\n"
        "    roi_head=dict(\n"
        "        type='StandardRoIHead',\n"
        "        bbox_roi_extractor=dict(\n"
        "            type='SingleRoIExtractor', roi_layer=dict(type='RoIAlign', output_size=7), featmap_strides=[4]),\n"
        "        bbox_head=dict(\n"
        "            type='Shared2FCBBoxHead',\n"
        "            num_clases=3)))\n"
    )
    with pytest.raises(ConfigError, match=r"num_clases.*\n  .*model\.py:9\n  did you mean 'num_classes'"):
        translate_model(load_config(path)["model"])
