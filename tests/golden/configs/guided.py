"""Guided anchoring and side-aware boundary localization, as the model part of a config in 3.x form."""

from typing import Any

from tests.golden.configs.dense import retinanet_r18, rpn_r50_caffe
from tests.golden.configs.two_stage import R18, faster_rcnn

Model = dict[str, Any]


def _coder(*stds: float) -> Model:
    return dict(type="DeltaXYWHBBoxCoder", target_means=[0.0, 0.0, 0.0, 0.0], target_stds=list(stds))


def _generators(scale: int, strides: list[int]) -> Model:
    return dict(
        approx_anchor_generator=dict(
            type="AnchorGenerator",
            octave_base_scale=scale,
            scales_per_octave=3,
            ratios=[0.5, 1.0, 2.0],
            strides=strides,
        ),
        square_anchor_generator=dict(type="AnchorGenerator", ratios=[1.0], scales=[scale], strides=strides),
    )


def _guide_training(pos: float, neg: float) -> Model:
    return dict(
        ga_assigner=dict(
            type="ApproxMaxIoUAssigner", pos_iou_thr=pos, neg_iou_thr=neg, min_pos_iou=neg, ignore_iof_thr=-1
        ),
        ga_sampler=dict(type="RandomSampler", num=256, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=False),
        allowed_border=-1,
        center_ratio=0.2,
        ignore_ratio=0.5,
    )


LOSSES: Model = dict(
    loss_loc=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
    loss_shape=dict(type="BoundedIoULoss", beta=0.2, loss_weight=1.0),
)
GA_RPN_HEAD: Model = dict(
    type="GARPNHead",
    in_channels=256,
    feat_channels=256,
    **_generators(8, [4, 8, 16, 32, 64]),
    anchor_coder=_coder(0.07, 0.07, 0.14, 0.14),
    bbox_coder=_coder(0.07, 0.07, 0.11, 0.11),
    loc_filter_thr=0.01,
    **LOSSES,
    loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
    loss_bbox=dict(type="SmoothL1Loss", beta=1.0, loss_weight=1.0),
)


def ga_rpn() -> Model:
    """Region proposals alone."""
    model = rpn_r50_caffe()
    model["rpn_head"] = dict(GA_RPN_HEAD)
    model["train_cfg"]["rpn"] |= _guide_training(0.7, 0.3)
    return model


def ga_faster_rcnn() -> Model:
    """Faster R-CNN on guided proposals, with a ResNet-18."""
    model = faster_rcnn(18, R18)
    model["rpn_head"] = dict(GA_RPN_HEAD)
    model["train_cfg"]["rpn"] |= _guide_training(0.7, 0.3)
    return model


def ga_retinanet() -> Model:
    """RetinaNet."""
    model = retinanet_r18()
    head = model["bbox_head"]
    model["bbox_head"] = dict(
        type="GARetinaHead",
        num_classes=80,
        in_channels=256,
        stacked_convs=4,
        feat_channels=256,
        **_generators(4, [8, 16, 32, 64, 128]),
        anchor_coder=_coder(1.0, 1.0, 1.0, 1.0),
        bbox_coder=_coder(1.0, 1.0, 1.0, 1.0),
        loc_filter_thr=0.01,
        **LOSSES,
        loss_cls=head["loss_cls"],
        loss_bbox=dict(type="SmoothL1Loss", beta=0.04, loss_weight=1.0),
    )
    model["train_cfg"] |= _guide_training(0.5, 0.4)
    return model


def sabl_retinanet() -> Model:
    """RetinaNet whose boxes are described by buckets; the squares and approximations are those of guided anchors."""
    model = retinanet_r18()
    head = model["bbox_head"]
    model["bbox_head"] = dict(
        type="SABLRetinaHead",
        num_classes=80,
        in_channels=256,
        stacked_convs=4,
        feat_channels=256,
        **_generators(4, [8, 16, 32, 64, 128]),
        bbox_coder=dict(type="BucketingBBoxCoder", num_buckets=14, scale_factor=3.0),
        loss_cls=head["loss_cls"],
        loss_bbox_cls=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.5),
        loss_bbox_reg=dict(type="SmoothL1Loss", beta=1.0 / 9.0, loss_weight=1.5),
    )
    model["train_cfg"] = dict(
        assigner=dict(
            type="ApproxMaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0.0, ignore_iof_thr=-1
        ),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    )
    return model
