"""Losses that hold values of their own, kept where checkpoints have them."""

from torch import nn

from fastdet.models.stages.cascade import CascadeStage
from fastdet.models.stages.dynamic import DynamicStage
from fastdet.models.stages.grid import GridStage
from fastdet.models.stages.roi import RoIStage


def keep_loss_state(roi_head: nn.Module, roi: RoIStage | CascadeStage | DynamicStage | GridStage) -> None:
    """Makes class losses that are modules part of their box heads, under the name `loss_cls` as in MMDetection.

    Criteria are no modules, so these values are saved and moved through the heads alone.
    """
    heads = roi_head.bbox_head
    steps = roi.steps if isinstance(roi, CascadeStage) else [roi]
    for head, step in zip(heads if isinstance(heads, nn.ModuleList) else [heads], steps, strict=True):
        loss = getattr(step.criterion, "loss_cls", None)
        if isinstance(loss, nn.Module):
            assert isinstance(head, nn.Module)
            head.add_module("loss_cls", loss)
