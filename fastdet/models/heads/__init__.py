"""Heads: the parameters that turn features into predictions."""

from fastdet.models.heads.bbox import ConvFCBBoxHead
from fastdet.models.heads.cascade_roi import CascadeRoIHead
from fastdet.models.heads.double_bbox import DoubleConvFCBBoxHead
from fastdet.models.heads.fcn_mask import FCNMaskHead
from fastdet.models.heads.fovea import FoveaHead
from fastdet.models.heads.fused_semantic import FusedSemanticHead
from fastdet.models.heads.grid import GridHead
from fastdet.models.heads.guided_anchor import GARetinaHead, GARPNHead
from fastdet.models.heads.mask_iou import MaskIoUHead
from fastdet.models.heads.reppoints import RepPointsHead
from fastdet.models.heads.res_layer import ResLayer
from fastdet.models.heads.retina import RetinaHead
from fastdet.models.heads.retina_sepbn import RetinaSepBNHead
from fastdet.models.heads.rpn import RPNHead
from fastdet.models.heads.sabl import SABLHead, SABLRetinaHead
from fastdet.models.heads.ssd import SSDHead
from fastdet.models.heads.standard_roi import StandardRoIHead
from fastdet.models.heads.tood import TOODHead
from fastdet.models.heads.tower import TowerHead
from fastdet.models.heads.vfnet import VFNetHead
from fastdet.models.heads.yolov3 import YOLOV3Head
from fastdet.models.heads.yolox import YOLOXHead

__all__ = [
    "CascadeRoIHead",
    "ConvFCBBoxHead",
    "DoubleConvFCBBoxHead",
    "FCNMaskHead",
    "FoveaHead",
    "FusedSemanticHead",
    "GARPNHead",
    "GARetinaHead",
    "GridHead",
    "MaskIoUHead",
    "RPNHead",
    "RepPointsHead",
    "ResLayer",
    "RetinaHead",
    "RetinaSepBNHead",
    "SABLHead",
    "SABLRetinaHead",
    "SSDHead",
    "StandardRoIHead",
    "TOODHead",
    "TowerHead",
    "VFNetHead",
    "YOLOV3Head",
    "YOLOXHead",
]
