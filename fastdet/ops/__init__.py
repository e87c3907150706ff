"""Detection ops on our own kernels: one name for every device; torch's dispatcher chooses the kernel."""

from fastdet.ops import library  # noqa: F401  # registers torch.ops.fastdet before anything else here
from fastdet.ops.assign_max_iou import assign_max_iou
from fastdet.ops.box_codes import BoxCode, cell_code, delta_code, distance_code, distribution_code
from fastdet.ops.box_iou import box_iou, paired_box_iou
from fastdet.ops.crop_masks import crop_masks
from fastdet.ops.deform_conv2d import deform_conv2d
from fastdet.ops.dense_postprocess import DetectedBoxes, Levels, Rivals, dense_postprocess, rpn_proposals
from fastdet.ops.fit_images import fit_images
from fastdet.ops.grid_anchors import grid_anchors
from fastdet.ops.ms_deform_attn import ms_deform_attn
from fastdet.ops.nms import batched_nms, nms
from fastdet.ops.nms_levels import nms_levels
from fastdet.ops.nms_match import nms_match
from fastdet.ops.nms_padded import nms_padded
from fastdet.ops.paste_masks import paste_masks
from fastdet.ops.roi_align import roi_align
from fastdet.ops.roi_max_pool import roi_pool
from fastdet.ops.sigmoid_focal_loss import sigmoid_focal_loss
from fastdet.ops.soft_nms import soft_nms, soft_nms_padded
from fastdet.ops.top_indices import top_indices

__all__ = [
    "BoxCode",
    "DetectedBoxes",
    "Levels",
    "Rivals",
    "assign_max_iou",
    "batched_nms",
    "box_iou",
    "cell_code",
    "crop_masks",
    "deform_conv2d",
    "delta_code",
    "dense_postprocess",
    "distance_code",
    "distribution_code",
    "fit_images",
    "grid_anchors",
    "ms_deform_attn",
    "nms",
    "nms_levels",
    "nms_match",
    "nms_padded",
    "paired_box_iou",
    "paste_masks",
    "roi_align",
    "roi_pool",
    "rpn_proposals",
    "sigmoid_focal_loss",
    "soft_nms",
    "soft_nms_padded",
    "top_indices",
]
