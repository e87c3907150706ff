"""Every family that exports finds in onnxruntime what it finds in torch: a crowd, padded pictures, one colour, ties."""

import copy
import os

import pytest

from fastdet.deploy.graph import GraphOptions
from fastdet.deploy.onnx_file import export_model
from fastdet.deploy.verify import Limits
from fastdet.utils.errors import UnsupportedConfig
from tests.deploy.families import FAMILIES, export, metadata_of, prove
from tests.golden.configs import two_stage
from tests.golden.harness import build_filled

QUICK = ("yolox", "faster_rcnn")
OTHERS = ("fcos", "atss", "mask_rcnn", "cascade_mask_rcnn", "paa", "yolov3", "reppoints", "mask_scoring")
REST = tuple(name for name in FAMILIES if name not in (*QUICK, *OTHERS))
LEAST_MATCHED = {"ssdlite": 0.98, "gn_ws": 0.49, "grid_rcnn": 0.99}
"""Shares of detections where rounding decides which ones there are, see docs/deploy.md; all of other families'."""
ALL = "FASTDET_ALL_FAMILIES"


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in OTHERS)])
def test_onnxruntime_finds_the_same(name: str) -> None:
    outcome = prove(export(name), Limits())
    assert outcome.comparison.expected > 50
    assert outcome.comparison.holds(Limits()), outcome
    assert outcome.exact == [1, 1, 1, 1]
    assert outcome.with_masks[0] == outcome.with_masks[1]


@pytest.mark.slow
@pytest.mark.skipif(
    ALL not in os.environ, reason=f"they take half an hour: set {ALL}=1; docs/deploy.md has their table"
)
@pytest.mark.parametrize("name", REST)
def test_onnxruntime_finds_the_same_in_the_other_families(name: str) -> None:
    found = prove(export(name), Limits()).comparison
    assert found.expected > 50
    assert found.matched >= LEAST_MATCHED.get(name, 1.0) * found.expected, found


def test_a_detector_of_given_proposals_is_refused() -> None:
    model = copy.deepcopy(two_stage.faster_rcnn(18, [64, 128, 256, 512]))
    model["type"] = "FastRCNN"
    del model["rpn_head"]
    options = GraphOptions(shape=(64, 64))
    with pytest.raises(UnsupportedConfig, match="takes proposals from outside"):
        export_model(build_filled(model).eval(), options, metadata_of(options))
