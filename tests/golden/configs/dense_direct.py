"""Models of the FCOS, ATSS and GFL goldens, in the text dialect that users write."""

from typing import Any

from tests.golden.configs.dense import retinanet_r18, rpn_r50_caffe

Model = dict[str, Any]


def _resnet50() -> Model:
    backbone = retinanet_r18()["backbone"]
    return backbone | dict(depth=50, init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet50"))


def _neck(in_channels: list[int], **more: Any) -> Model:
    shape = dict(type="FPN", in_channels=in_channels, out_channels=256, start_level=1, num_outs=5)
    return shape | dict(add_extra_convs="on_output") | more


def fcos_r50_caffe() -> Model:
    """FCOS as first published: exponential distances, centerness beside the classes."""
    model = rpn_r50_caffe()
    return dict(
        type="FCOS",
        data_preprocessor=model["data_preprocessor"] | dict(mean=[102.9801, 115.9465, 122.7717]),
        backbone=model["backbone"],
        neck=_neck([256, 512, 1024, 2048], relu_before_extra_convs=True),
        bbox_head=dict(
            type="FCOSHead",
            num_classes=80,
            in_channels=256,
            stacked_convs=4,
            feat_channels=256,
            strides=[8, 16, 32, 64, 128],
            loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
            loss_bbox=dict(type="IoULoss", loss_weight=1.0),
            loss_centerness=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
        ),
        test_cfg=dict(
            nms_pre=1000,
            min_bbox_size=0,
            score_thr=0.05,
            nms=dict(type="nms", iou_threshold=0.5),
            max_per_img=100,
        ),
    )


def fcos_r18() -> Model:
    """FCOS with all its improvements: distances in strides, centre sampling, centerness beside the boxes, GIoU."""
    model = fcos_r50_caffe()
    model["data_preprocessor"] = retinanet_r18()["data_preprocessor"]
    model["backbone"] = retinanet_r18()["backbone"]
    model["neck"] = _neck([64, 128, 256, 512], relu_before_extra_convs=True)
    model["bbox_head"] |= dict(
        norm_on_bbox=True,
        centerness_on_reg=True,
        dcn_on_last_conv=False,
        center_sampling=True,
        conv_bias=True,
        loss_bbox=dict(type="GIoULoss", loss_weight=1.0),
    )
    model["test_cfg"]["nms"] = dict(type="nms", iou_threshold=0.6)
    return model


def atss_r50() -> Model:
    """ATSS with one square anchor a cell."""
    model = retinanet_r18()
    model |= dict(type="ATSS", backbone=_resnet50(), neck=_neck([256, 512, 1024, 2048]))
    model["bbox_head"] = dict(
        type="ATSSHead",
        num_classes=80,
        in_channels=256,
        stacked_convs=4,
        feat_channels=256,
        anchor_generator=dict(
            type="AnchorGenerator",
            ratios=[1.0],
            octave_base_scale=8,
            scales_per_octave=1,
            strides=[8, 16, 32, 64, 128],
        ),
        bbox_coder=dict(
            type="DeltaXYWHBBoxCoder",
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[0.1, 0.1, 0.2, 0.2],
        ),
        loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type="GIoULoss", loss_weight=2.0),
        loss_centerness=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
    )
    model["train_cfg"] = dict(assigner=dict(type="ATSSAssigner", topk=9), allowed_border=-1, pos_weight=-1, debug=False)
    model["test_cfg"]["nms"] = dict(type="nms", iou_threshold=0.6)
    return model


def gfl_r50() -> Model:
    """GFL with distributions over 0 to 16 strides."""
    model = atss_r50()
    head = model["bbox_head"]
    del head["bbox_coder"], head["loss_centerness"]
    head |= dict(
        type="GFLHead",
        loss_cls=dict(type="QualityFocalLoss", use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_dfl=dict(type="DistributionFocalLoss", loss_weight=0.25),
        reg_max=16,
        loss_bbox=dict(type="GIoULoss", loss_weight=2.0),
    )
    return model | dict(type="GFL")


def yolox_nano() -> Model:
    """YOLOX with depthwise separable convolutions, 0.33 as deep and 0.25 as wide."""
    layers = dict(norm_cfg=dict(type="BN", momentum=0.03, eps=0.001), act_cfg=dict(type="Swish"), use_depthwise=True)
    total = dict(use_sigmoid=True, reduction="sum", loss_weight=1.0)
    return dict(
        type="YOLOX",
        data_preprocessor=dict(type="DetDataPreprocessor", pad_size_divisor=32),
        backbone=dict(
            type="CSPDarknet",
            deepen_factor=0.33,
            widen_factor=0.25,
            out_indices=(2, 3, 4),
            spp_kernal_sizes=(5, 9, 13),
            **layers,
        ),
        neck=dict(
            type="YOLOXPAFPN",
            in_channels=[64, 128, 256],
            out_channels=64,
            num_csp_blocks=1,
            upsample_cfg=dict(scale_factor=2, mode="nearest"),
            **layers,
        ),
        bbox_head=dict(
            type="YOLOXHead",
            num_classes=80,
            in_channels=64,
            feat_channels=64,
            stacked_convs=2,
            strides=(8, 16, 32),
            loss_cls=dict(type="CrossEntropyLoss", **total),
            loss_bbox=dict(type="IoULoss", mode="square", eps=1e-16, reduction="sum", loss_weight=5.0),
            loss_obj=dict(type="CrossEntropyLoss", **total),
            loss_l1=dict(type="L1Loss", reduction="sum", loss_weight=1.0),
            **layers,
        ),
        train_cfg=dict(assigner=dict(type="SimOTAAssigner", center_radius=2.5)),
        test_cfg=dict(score_thr=0.01, nms=dict(type="nms", iou_threshold=0.65)),
    )
