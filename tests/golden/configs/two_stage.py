"""Models of the two-stage goldens, in the text dialect that users write."""

from typing import Any

Model = dict[str, Any]


def _coder(*stds: float) -> Model:
    return dict(type="DeltaXYWHBBoxCoder", target_means=[0.0, 0.0, 0.0, 0.0], target_stds=list(stds))


def _extractor(output_size: int) -> Model:
    return dict(
        type="SingleRoIExtractor",
        roi_layer=dict(type="RoIAlign", output_size=output_size, sampling_ratio=0),
        out_channels=256,
        featmap_strides=[4, 8, 16, 32],
    )


def _assigner(pos: float, neg: float, low: float, match_low_quality: bool) -> Model:
    return dict(
        type="MaxIoUAssigner",
        pos_iou_thr=pos,
        neg_iou_thr=neg,
        min_pos_iou=low,
        match_low_quality=match_low_quality,
        ignore_iof_thr=-1,
    )


def _proposals(nms_pre: int) -> Model:
    return dict(nms_pre=nms_pre, max_per_img=1000, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0)


def faster_rcnn(depth: int, in_channels: list[int]) -> Model:
    """Faster R-CNN with a pytorch-style ResNet and FPN, 80 classes."""
    return dict(
        type="FasterRCNN",
        data_preprocessor=dict(
            type="DetDataPreprocessor",
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            bgr_to_rgb=True,
            pad_size_divisor=32,
        ),
        backbone=dict(
            type="ResNet",
            depth=depth,
            num_stages=4,
            out_indices=(0, 1, 2, 3),
            frozen_stages=1,
            norm_cfg=dict(type="BN", requires_grad=True),
            norm_eval=True,
            style="pytorch",
        ),
        neck=dict(type="FPN", in_channels=in_channels, out_channels=256, num_outs=5),
        rpn_head=dict(
            type="RPNHead",
            in_channels=256,
            feat_channels=256,
            anchor_generator=dict(
                type="AnchorGenerator", scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64]
            ),
            bbox_coder=_coder(1.0, 1.0, 1.0, 1.0),
            loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
            loss_bbox=dict(type="L1Loss", loss_weight=1.0),
        ),
        roi_head=dict(
            type="StandardRoIHead",
            bbox_roi_extractor=_extractor(7),
            bbox_head=dict(
                type="Shared2FCBBoxHead",
                in_channels=256,
                fc_out_channels=1024,
                roi_feat_size=7,
                num_classes=80,
                bbox_coder=_coder(0.1, 0.1, 0.2, 0.2),
                reg_class_agnostic=False,
                loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
                loss_bbox=dict(type="L1Loss", loss_weight=1.0),
            ),
        ),
        train_cfg=dict(
            rpn=dict(
                assigner=_assigner(0.7, 0.3, 0.3, True),
                sampler=dict(type="RandomSampler", num=256, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=False),
                allowed_border=-1,
                pos_weight=-1,
                debug=False,
            ),
            rpn_proposal=_proposals(2000),
            rcnn=dict(
                assigner=_assigner(0.5, 0.5, 0.5, False),
                sampler=dict(type="RandomSampler", num=512, pos_fraction=0.25, neg_pos_ub=-1, add_gt_as_proposals=True),
                pos_weight=-1,
                debug=False,
            ),
        ),
        test_cfg=dict(
            rpn=_proposals(1000),
            rcnn=dict(score_thr=0.05, nms=dict(type="nms", iou_threshold=0.5), max_per_img=100),
        ),
    )


def mask_rcnn(depth: int, in_channels: list[int]) -> Model:
    """Mask R-CNN: the same with a mask branch, and proposals that also take their best object below the threshold."""
    model = faster_rcnn(depth, in_channels)
    model["type"] = "MaskRCNN"
    model["data_preprocessor"]["pad_mask"] = True
    model["roi_head"]["mask_roi_extractor"] = _extractor(14)
    model["roi_head"]["mask_head"] = dict(
        type="FCNMaskHead",
        num_convs=4,
        in_channels=256,
        conv_out_channels=256,
        num_classes=80,
        loss_mask=dict(type="CrossEntropyLoss", use_mask=True, loss_weight=1.0),
    )
    model["train_cfg"]["rcnn"] |= dict(assigner=_assigner(0.5, 0.5, 0.5, True), mask_size=28)
    model["test_cfg"]["rcnn"]["mask_thr_binary"] = 0.5
    return model


def cascade_mask_rcnn(depth: int, in_channels: list[int]) -> Model:
    """Cascade Mask R-CNN: three steps, one box for all classes, ever better boxes as positives."""
    model = mask_rcnn(depth, in_channels)
    model["type"] = "CascadeRCNN"
    roi, train = model["roi_head"], model["train_cfg"]
    loss_bbox = dict(type="SmoothL1Loss", beta=1.0, loss_weight=1.0)
    stds = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))
    box = roi["bbox_head"] | dict(reg_class_agnostic=True, loss_bbox=loss_bbox)
    roi |= dict(
        type="CascadeRoIHead",
        num_stages=3,
        stage_loss_weights=[1, 0.5, 0.25],
        bbox_head=[box | dict(bbox_coder=_coder(*one)) for one in stds],
    )
    model["rpn_head"]["loss_bbox"] = dict(type="SmoothL1Loss", beta=1.0 / 9.0, loss_weight=1.0)
    train["rpn"]["allowed_border"] = 0
    train["rpn_proposal"] |= dict(nms_pre=2000, max_per_img=2000)
    train["rcnn"] = [train["rcnn"] | dict(assigner=_assigner(iou, iou, iou, False)) for iou in (0.5, 0.6, 0.7)]
    return model


def hybrid_task_cascade(depth: int, in_channels: list[int]) -> Model:
    """Hybrid Task Cascade with a semantic branch of 183 classes."""
    model = cascade_mask_rcnn(depth, in_channels)
    model["type"] = "HybridTaskCascade"
    roi = model["roi_head"]
    mask = roi["mask_head"] | dict(type="HTCMaskHead")
    semantic = dict(type="RoIAlign", output_size=14, sampling_ratio=0)
    roi |= dict(
        type="HybridTaskCascadeRoIHead",
        interleaved=True,
        mask_info_flow=True,
        mask_head=[mask | dict(with_conv_res=False), mask, mask],
        semantic_roi_extractor=dict(
            type="SingleRoIExtractor", roi_layer=semantic, out_channels=256, featmap_strides=[8]
        ),
        semantic_head=dict(
            type="FusedSemanticHead",
            num_ins=5,
            fusion_level=1,
            seg_scale_factor=1 / 8,
            num_convs=4,
            in_channels=256,
            conv_out_channels=256,
            num_classes=183,
            loss_seg=dict(type="CrossEntropyLoss", ignore_index=255, loss_weight=0.2),
        ),
    )
    return model


def double_head(depth: int, in_channels: list[int]) -> Model:
    """Double-Head: linear layers for the class, convolutions on an enlarged box for the box."""
    model = faster_rcnn(depth, in_channels)
    roi = model["roi_head"]
    roi |= dict(type="DoubleHeadRoIHead", reg_roi_scale_factor=1.3)
    loss_cls = dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=2.0)
    loss_bbox = dict(type="SmoothL1Loss", beta=1.0, loss_weight=2.0)
    roi["bbox_head"] |= dict(type="DoubleConvFCBBoxHead", num_convs=4, num_fcs=2, conv_out_channels=1024)
    roi["bbox_head"] |= dict(loss_cls=loss_cls, loss_bbox=loss_bbox)
    return model


def mask_scoring_rcnn(depth: int, in_channels: list[int]) -> Model:
    """Mask Scoring R-CNN: Mask R-CNN whose masks have scores."""
    model = mask_rcnn(depth, in_channels)
    model["type"] = "MaskScoringRCNN"
    model["roi_head"] |= dict(
        type="MaskScoringRoIHead",
        mask_iou_head=dict(
            type="MaskIoUHead",
            num_convs=4,
            num_fcs=2,
            roi_feat_size=14,
            in_channels=256,
            conv_out_channels=256,
            fc_out_channels=1024,
            num_classes=80,
        ),
    )
    model["train_cfg"]["rcnn"]["mask_thr_binary"] = 0.5
    return model


def seesaw_cascade(depth: int, in_channels: list[int]) -> Model:
    """Cascade Mask R-CNN for a long tail of classes: seesaw loss, and predictors that compare directions."""
    model = cascade_mask_rcnn(depth, in_channels)
    roi = model["roi_head"]
    loss = dict(type="SeesawLoss", p=0.8, q=2.0, num_classes=80, loss_weight=1.0)
    normed = dict(type="NormedLinear", tempearture=20)
    roi["bbox_head"] = [box | dict(cls_predictor_cfg=normed, loss_cls=loss) for box in roi["bbox_head"]]
    roi["mask_head"]["predictor_cfg"] = dict(type="NormedConv2d", tempearture=20)
    return model


def sabl_cascade(depth: int, in_channels: list[int]) -> Model:
    """Cascade R-CNN whose boxes are described by buckets."""
    model = cascade_mask_rcnn(depth, in_channels)
    roi = model["roi_head"]
    for key in ("mask_head", "mask_roi_extractor"):
        del roi[key]
    roi["bbox_head"] = [
        dict(
            type="SABLHead",
            num_classes=80,
            cls_in_channels=256,
            reg_in_channels=256,
            roi_feat_size=7,
            reg_feat_up_ratio=2,
            reg_pre_kernel=3,
            reg_post_kernel=3,
            reg_pre_num=2,
            reg_post_num=1,
            cls_out_channels=1024,
            reg_offset_out_channels=256,
            reg_cls_out_channels=256,
            num_cls_fcs=1,
            num_reg_fcs=0,
            reg_class_agnostic=True,
            norm_cfg=None,
            bbox_coder=dict(type="BucketingBBoxCoder", num_buckets=14, scale_factor=scale),
            loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
            loss_bbox_cls=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
            loss_bbox_reg=dict(type="SmoothL1Loss", beta=0.1, loss_weight=1.0),
        )
        for scale in (1.7, 1.5, 1.3)
    ]
    return model


def grid_rcnn(depth: int, in_channels: list[int]) -> Model:
    """Grid R-CNN: classes of a Faster R-CNN, boxes from the points of a grid."""
    model = faster_rcnn(depth, in_channels)
    model["type"] = "GridRCNN"
    model["roi_head"] |= dict(
        type="GridRoIHead",
        grid_roi_extractor=_extractor(14),
        grid_head=dict(
            type="GridHead",
            grid_points=9,
            num_convs=8,
            in_channels=256,
            point_feat_channels=64,
            norm_cfg=dict(type="GN", num_groups=36),
            loss_grid=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=15),
        ),
    )
    model["roi_head"]["bbox_head"]["with_reg"] = False
    model["train_cfg"]["rcnn"] |= dict(pos_radius=1, max_num_grid=192)
    return model


def dynamic_rcnn(depth: int, in_channels: list[int]) -> Model:
    """Dynamic R-CNN: Faster R-CNN whose thresholds follow the training."""
    model = faster_rcnn(depth, in_channels)
    model["roi_head"]["type"] = "DynamicRoIHead"
    model["roi_head"]["bbox_head"]["loss_bbox"] = dict(type="SmoothL1Loss", beta=1.0, loss_weight=1.0)
    model["train_cfg"]["rcnn"]["dynamic_rcnn"] = dict(
        iou_topk=75, beta_topk=10, update_iter_interval=1, initial_iou=0.4, initial_beta=1.0
    )
    return model


def deformable_cascade(depth: int, in_channels: list[int]) -> Model:
    """Cascade R-CNN without masks, with deformable convolutions in the last three stages."""
    model = cascade_mask_rcnn(depth, in_channels)
    for key in ("mask_head", "mask_roi_extractor"):
        del model["roi_head"][key]
    model["backbone"] |= dict(
        dcn=dict(type="DCN", deform_groups=1, fallback_on_stride=False), stage_with_dcn=(False, True, True, True)
    )
    return model


def hrnet_cascade(width: int) -> Model:
    """Cascade Mask R-CNN on an HRNet."""
    widths = [width * 2**i for i in range(4)]
    model = cascade_mask_rcnn(50, widths)
    first = dict(num_modules=1, num_branches=1, block="BOTTLENECK", num_blocks=(4,), num_channels=(64,))
    extra: Model = dict(stage1=first)
    for branches, modules in ((2, 1), (3, 4), (4, 3)):
        extra[f"stage{branches}"] = dict(
            num_modules=modules,
            num_branches=branches,
            block="BASIC",
            num_blocks=(4,) * branches,
            num_channels=tuple(widths[:branches]),
        )
    model["backbone"] = dict(type="HRNet", extra=extra)
    model["neck"] = dict(type="HRFPN", in_channels=widths, out_channels=256)
    return model


def caffe(model: Model) -> Model:
    """The model with a caffe-style ResNet: pixels in BGR without scaling, every batch norm frozen."""
    model["data_preprocessor"] |= dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], bgr_to_rgb=False)
    model["backbone"] |= dict(norm_cfg=dict(type="BN", requires_grad=False), style="caffe")
    return model


R18, R50 = [64, 128, 256, 512], [256, 512, 1024, 2048]

MODELS: dict[str, Model] = {
    "faster_rcnn__faster-rcnn_r50_fpn_1x_coco": faster_rcnn(50, R50),
    "faster_rcnn__faster-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco": faster_rcnn(18, R18),
    "mask_rcnn__mask-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco": mask_rcnn(18, R18),
    "cascade_rcnn__cascade-mask-rcnn_r50-caffe_fpn_1x_coco": caffe(cascade_mask_rcnn(50, R50)),
    "double_heads__dh-faster-rcnn_r50_fpn_1x_coco": double_head(50, R50),
    "dcn__cascade-rcnn_r50-dconv-c3-c5_fpn_1x_coco": deformable_cascade(50, R50),
    "hrnet__cascade-mask-rcnn_hrnetv2p-w18_20e_coco": hrnet_cascade(18),
}

# Every way of a second stage with a small backbone, for tests that need no figures.
MODELS_18: dict[str, Model] = {
    "cascade_mask_rcnn": cascade_mask_rcnn(18, R18),
    "double_head": double_head(18, R18),
    "hybrid_task_cascade": hybrid_task_cascade(18, R18),
    "mask_scoring": mask_scoring_rcnn(18, R18),
    "seesaw": seesaw_cascade(18, R18),
    "sabl": sabl_cascade(18, R18),
    "grid": grid_rcnn(18, R18),
    "dynamic": dynamic_rcnn(18, R18),
}
