"""Models of the dense goldens, in the text dialect that users write."""

from typing import Any

Model = dict[str, Any]

CODER = dict(type="DeltaXYWHBBoxCoder", target_means=[0.0, 0.0, 0.0, 0.0], target_stds=[1.0, 1.0, 1.0, 1.0])


def retinanet_r18() -> Model:
    """RetinaNet with a pytorch-style ResNet-18 and FPN, 80 classes."""
    return dict(
        type="RetinaNet",
        data_preprocessor=dict(
            type="DetDataPreprocessor",
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            bgr_to_rgb=True,
            pad_size_divisor=32,
        ),
        backbone=dict(
            type="ResNet",
            depth=18,
            num_stages=4,
            out_indices=(0, 1, 2, 3),
            frozen_stages=1,
            norm_cfg=dict(type="BN", requires_grad=True),
            norm_eval=True,
            style="pytorch",
            init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet18"),
        ),
        neck=dict(
            type="FPN",
            in_channels=[64, 128, 256, 512],
            out_channels=256,
            start_level=1,
            add_extra_convs="on_input",
            num_outs=5,
        ),
        bbox_head=dict(
            type="RetinaHead",
            num_classes=80,
            in_channels=256,
            stacked_convs=4,
            feat_channels=256,
            anchor_generator=dict(
                type="AnchorGenerator",
                octave_base_scale=4,
                scales_per_octave=3,
                ratios=[0.5, 1.0, 2.0],
                strides=[8, 16, 32, 64, 128],
            ),
            bbox_coder=CODER,
            loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
            loss_bbox=dict(type="L1Loss", loss_weight=1.0),
        ),
        train_cfg=dict(
            assigner=dict(type="MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0, ignore_iof_thr=-1),
            sampler=dict(type="PseudoSampler"),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        test_cfg=dict(
            nms_pre=1000,
            min_bbox_size=0,
            score_thr=0.05,
            nms=dict(type="nms", iou_threshold=0.5),
            max_per_img=100,
        ),
    )


def rpn_r50_caffe() -> Model:
    """A region proposal network on a caffe-style ResNet-50 with FPN."""
    return dict(
        type="RPN",
        data_preprocessor=dict(
            type="DetDataPreprocessor",
            mean=[103.530, 116.280, 123.675],
            std=[1.0, 1.0, 1.0],
            bgr_to_rgb=False,
            pad_size_divisor=32,
        ),
        backbone=dict(
            type="ResNet",
            depth=50,
            num_stages=4,
            out_indices=(0, 1, 2, 3),
            frozen_stages=1,
            norm_cfg=dict(type="BN", requires_grad=False),
            norm_eval=True,
            style="caffe",
            init_cfg=dict(type="Pretrained", checkpoint="open-mmlab://detectron2/resnet50_caffe"),
        ),
        neck=dict(type="FPN", in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=5),
        rpn_head=dict(
            type="RPNHead",
            in_channels=256,
            feat_channels=256,
            anchor_generator=dict(
                type="AnchorGenerator", scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64]
            ),
            bbox_coder=CODER,
            loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
            loss_bbox=dict(type="L1Loss", loss_weight=1.0),
        ),
        train_cfg=dict(
            rpn=dict(
                assigner=dict(
                    type="MaxIoUAssigner", pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3, ignore_iof_thr=-1
                ),
                sampler=dict(type="RandomSampler", num=256, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=False),
                allowed_border=-1,
                pos_weight=-1,
                debug=False,
            )
        ),
        test_cfg=dict(
            rpn=dict(nms_pre=2000, max_per_img=1000, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0)
        ),
    )


def ghm_r50() -> Model:
    """RetinaNet with gradient harmonised losses."""
    model = retinanet_r18()
    model["backbone"] |= dict(depth=50, init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet50"))
    model["neck"] |= dict(in_channels=[256, 512, 1024, 2048])
    model["bbox_head"] |= dict(
        loss_cls=dict(type="GHMC", bins=30, momentum=0.75, use_sigmoid=True, loss_weight=1.0),
        loss_bbox=dict(type="GHMR", mu=0.02, bins=10, momentum=0.7, loss_weight=10.0),
    )
    return model


def ssd300() -> Model:
    """SSD300 for COCO."""
    channels = (512, 1024, 512, 256, 256, 256)
    return dict(
        type="SingleStageDetector",
        data_preprocessor=dict(
            type="DetDataPreprocessor",
            mean=[123.675, 116.28, 103.53],
            std=[1, 1, 1],
            bgr_to_rgb=True,
            pad_size_divisor=1,
        ),
        backbone=dict(
            type="SSDVGG",
            depth=16,
            with_last_pool=False,
            ceil_mode=True,
            out_indices=(3, 4),
            out_feature_indices=(22, 34),
            init_cfg=dict(type="Pretrained", checkpoint="open-mmlab://vgg16_caffe"),
        ),
        neck=dict(
            type="SSDNeck",
            in_channels=channels[:2],
            out_channels=channels,
            level_strides=(2, 2, 1, 1),
            level_paddings=(1, 1, 0, 0),
            l2_norm_scale=20,
        ),
        bbox_head=dict(
            type="SSDHead",
            in_channels=channels,
            num_classes=80,
            anchor_generator=dict(
                type="SSDAnchorGenerator",
                scale_major=False,
                input_size=300,
                basesize_ratio_range=(0.15, 0.9),
                strides=[8, 16, 32, 64, 100, 300],
                ratios=[[2], [2, 3], [2, 3], [2, 3], [2], [2]],
            ),
            bbox_coder=CODER | dict(target_stds=[0.1, 0.1, 0.2, 0.2]),
        ),
        train_cfg=dict(
            assigner=dict(
                type="MaxIoUAssigner",
                pos_iou_thr=0.5,
                neg_iou_thr=0.5,
                min_pos_iou=0.0,
                ignore_iof_thr=-1,
                gt_max_assign_all=False,
            ),
            sampler=dict(type="PseudoSampler"),
            smoothl1_beta=1.0,
            allowed_border=-1,
            pos_weight=-1,
            neg_pos_ratio=3,
            debug=False,
        ),
        test_cfg=dict(
            nms_pre=1000,
            nms=dict(type="nms", iou_threshold=0.45),
            min_bbox_size=0,
            score_thr=0.02,
            max_per_img=200,
        ),
    )
