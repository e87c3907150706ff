"""Models of RepPoints, VFNet, FoveaBox, PAA, TOOD and FreeAnchor, in the text dialect that users write."""

from typing import Any

from tests.golden.configs.dense import retinanet_r18
from tests.golden.configs.dense_direct import atss_r50

Model = dict[str, Any]

STRIDES = [8, 16, 32, 64, 128]
FOCAL = dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0)
TOWERS = dict(num_classes=80, in_channels=256, stacked_convs=2, feat_channels=256)


def reppoints() -> Model:
    """RepPoints with boxes by moments."""
    model = retinanet_r18() | dict(type="RepPointsDetector")
    overlap = model["train_cfg"]["assigner"]
    model["bbox_head"] = TOWERS | dict(
        type="RepPointsHead",
        point_feat_channels=16,
        point_strides=STRIDES,
        loss_cls=FOCAL,
        loss_bbox_init=dict(type="SmoothL1Loss", beta=0.11, loss_weight=0.5),
        loss_bbox_refine=dict(type="SmoothL1Loss", beta=0.11, loss_weight=1.0),
        transform_method="moment",
    )
    model["train_cfg"] = dict(
        init=dict(assigner=dict(type="PointAssigner", scale=4, pos_num=1), allowed_border=-1, pos_weight=-1),
        refine=dict(assigner=overlap, allowed_border=-1, pos_weight=-1),
    )
    return model


def reppoints_grid() -> Model:
    """RepPoints whose points are a grid in a box, first assigned by overlap."""
    model = reppoints()
    model["bbox_head"] |= dict(transform_method="minmax", use_grid_points=True)
    model["train_cfg"]["init"]["assigner"] = model["train_cfg"]["refine"]["assigner"]
    return model


def vfnet() -> Model:
    """VFNet with ATSS."""
    model = atss_r50() | dict(type="VFNet")
    model["bbox_head"] = TOWERS | dict(type="VFNetHead", strides=STRIDES, use_atss=True, use_vfl=True)
    return model


def fovea() -> Model:
    """FoveaBox with aligned features."""
    model = retinanet_r18() | dict(type="FOVEA", train_cfg=dict())
    model["bbox_head"] = TOWERS | dict(
        type="FoveaHead",
        strides=STRIDES,
        base_edge_list=[16, 32, 64, 128, 256],
        scale_ranges=((1, 64), (32, 128), (64, 256), (128, 512), (256, 2048)),
        sigma=0.4,
        with_deform=True,
        loss_cls=FOCAL | dict(gamma=1.5, alpha=0.4),
        loss_bbox=dict(type="SmoothL1Loss", beta=0.11, loss_weight=1.0),
    )
    return model


def paa() -> Model:
    """PAA with score voting."""
    model = atss_r50() | dict(type="PAA")
    model["bbox_head"] |= dict(type="PAAHead", reg_decoded_bbox=True, score_voting=True, topk=9)
    assigner = dict(type="MaxIoUAssigner", pos_iou_thr=0.1, neg_iou_thr=0.1, min_pos_iou=0, ignore_iof_thr=-1)
    model["train_cfg"] |= dict(assigner=assigner)
    return model


def tood() -> Model:
    """TOOD in its first epochs."""
    model = atss_r50() | dict(type="TOOD")
    head = model["bbox_head"]
    del head["loss_centerness"]
    head |= dict(
        type="TOODHead",
        stacked_convs=2,
        initial_loss_cls=FOCAL | dict(activated=True),
        loss_cls=dict(type="QualityFocalLoss", use_sigmoid=True, activated=True, beta=2.0, loss_weight=1.0),
    )
    model["train_cfg"] |= dict(
        initial_epoch=4,
        initial_assigner=dict(type="ATSSAssigner", topk=9),
        assigner=dict(type="TaskAlignedAssigner", topk=13),
        alpha=1,
        beta=6,
    )
    return model


def tood_later() -> Model:
    """TOOD after its first epochs, with anchors."""
    model = tood()
    model["bbox_head"]["anchor_type"] = "anchor_based"
    model["train_cfg"]["initial_epoch"] = 0
    return model


def free_anchor() -> Model:
    """FreeAnchor."""
    model = retinanet_r18()
    del model["bbox_head"]["loss_cls"]
    model["bbox_head"] |= dict(
        type="FreeAnchorRetinaHead", loss_bbox=dict(type="SmoothL1Loss", beta=0.11, loss_weight=0.75)
    )
    return model
