"""What is built from an Experiment, where that takes more than the registry."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fastdet.build import build_metrics, check_fit
from fastdet.registry import METRICS, Spec
from fastdet.structures import Batch, Detections
from fastdet.utils.errors import ConfigError


class SecondStageAlone(nn.Module):
    """A detector that starts from the proposals of its batch, as Fast R-CNN does."""

    def predict(self, batch: Batch) -> Detections:
        if batch.proposals is None:
            raise ValueError("a batch with proposals is needed")
        boxes, count = batch.proposals
        assert boxes.tolist() == [[[0, 0, 64, 64]]]
        return Detections(boxes, torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.int64), count)


def test_a_detector_without_a_first_stage_is_tried_with_a_proposal() -> None:
    check_fit(SecondStageAlone(), [Spec.of("CocoMetric", metric=("bbox",))])
    with pytest.raises(ConfigError, match="metric='segm' needs masks"):
        check_fit(SecondStageAlone(), [Spec.of("CocoMetric", metric=("bbox", "segm"))])


class DeepPyramid(nn.Module):
    """A detector whose last level needs a large picture, as SSD's do."""

    def predict(self, batch: Batch) -> Detections:
        if batch.pixels.shape[-1] < 300:
            raise RuntimeError("Kernel size can't be greater than actual input size")
        return Detections(torch.zeros(1, 1, 4), torch.zeros(1, 1), torch.zeros(1, 1).long(), torch.zeros(1).long())


def test_a_detector_that_needs_large_pictures_is_tried_with_one() -> None:
    detector = DeepPyramid().train()
    check_fit(detector, ())
    assert detector.training


def test_metrics_that_ask_for_it_are_given_the_hierarchy_of_classes() -> None:
    relations = np.eye(2, dtype=bool)
    dataset: Any = SimpleNamespace(classes=("a", "b"), category_ids=(0, 1), relations=relations)
    found = build_metrics([Spec.of("OpenImagesMetric"), Spec.of("VOCMetric")], dataset)
    assert [type(metric).__name__ for metric in found] == ["OpenImagesMetric", "VOCMetric"]
    plain: Any = SimpleNamespace(classes=("a", "b"), category_ids=(0, 1))
    with pytest.raises(ValueError, match="needs an OpenImagesDataset"):
        build_metrics([Spec.of("OpenImagesMetric")], plain)
    assert "VOCMetric" in METRICS
