"""Detection ops on our own kernels: one name for every device; torch's dispatcher chooses the kernel."""

from fastdet.ops import library  # noqa: F401  # registers torch.ops.fastdet before anything else here
from fastdet.ops.assign_max_iou import assign_max_iou
from fastdet.ops.crop_masks import crop_masks
from fastdet.ops.deform_conv2d import deform_conv2d
from fastdet.ops.grid_anchors import grid_anchors
from fastdet.ops.nms import batched_nms, nms
from fastdet.ops.nms_levels import nms_levels
from fastdet.ops.nms_padded import nms_padded
from fastdet.ops.roi_align import roi_align
from fastdet.ops.top_indices import top_indices

__all__ = [
    "assign_max_iou",
    "batched_nms",
    "crop_masks",
    "deform_conv2d",
    "grid_anchors",
    "nms",
    "nms_levels",
    "nms_padded",
    "roi_align",
    "top_indices",
]
