"""Necks: feature levels to feature levels."""

from fastdet.models.necks.bfp import BFP
from fastdet.models.necks.chain import neck_chain
from fastdet.models.necks.channel_mapper import ChannelMapper
from fastdet.models.necks.dyhead import DyHead
from fastdet.models.necks.fpg import FPG
from fastdet.models.necks.fpn import FPN
from fastdet.models.necks.fpn_carafe import CarafeFPN
from fastdet.models.necks.hrfpn import HRFPN
from fastdet.models.necks.nas_fpn import NASFPN
from fastdet.models.necks.pafpn import PAFPN
from fastdet.models.necks.rfp import RFP
from fastdet.models.necks.ssd_neck import SSDNeck
from fastdet.models.necks.yolo_neck import YOLOV3Neck
from fastdet.models.necks.yolox_pafpn import CSPPyramid, csp_next_pafpn, yolox_pafpn

__all__ = [
    "BFP",
    "FPG",
    "FPN",
    "HRFPN",
    "NASFPN",
    "PAFPN",
    "RFP",
    "CSPPyramid",
    "CarafeFPN",
    "ChannelMapper",
    "DyHead",
    "SSDNeck",
    "YOLOV3Neck",
    "csp_next_pafpn",
    "neck_chain",
    "yolox_pafpn",
]
