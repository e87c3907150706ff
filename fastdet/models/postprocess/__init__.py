"""Post-processing: predictions become detections of fixed shape."""

from fastdet.models.postprocess.best_class import BestClassPostprocess
from fastdet.models.postprocess.cells import CellPostprocess
from fastdet.models.postprocess.dense import DensePostprocess, ProposalPostprocess
from fastdet.models.postprocess.roi import RoIPostprocess
from fastdet.models.postprocess.suppression import SoftNMS
from fastdet.models.postprocess.voting import VotingPostprocess

__all__ = [
    "BestClassPostprocess",
    "CellPostprocess",
    "DensePostprocess",
    "ProposalPostprocess",
    "RoIPostprocess",
    "SoftNMS",
    "VotingPostprocess",
]
