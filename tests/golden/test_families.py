"""Families of detectors compute what MMDetection 3.3.0 computes: detections, masks, losses and gradient norms.

A record holds the model part of its config, so that nothing but this repository is needed; `harness.py` says how far a
detector may be from it.
"""

import pytest

from tests.golden.harness import (
    FOLDER,
    Golden,
    build_filled,
    gradient_error,
    largest_area_error,
    loss_error,
    losses,
    lowest_match,
    predict,
)

NAMES = sorted(path.stem for path in (FOLDER / "families").glob("*.json"))
QUICK = (
    "dynamic_rcnn",
    "fast_rcnn__",
    "faster_rcnn__faster-rcnn_r50_fpn_ohem",
    "foveabox",
    "free_anchor",
    "gfl",
    "legacy_1.x__faster",
    "libra_rcnn__libra-retinanet",
    "pafpn",
    "reppoints__reppoints-moment",
    "sabl__sabl-retinanet",
    "ssd__ssdlite",
    "tood",
    "vfnet",
)
PARAMETERS = [pytest.param(n, marks=() if n.startswith(QUICK) else pytest.mark.slow, id=n) for n in NAMES]


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_family_computes_what_mmdetection_computes(name: str) -> None:
    golden = Golden.family(name)
    detector = build_filled(golden.record["model"])
    found = predict(detector, golden)
    assert lowest_match(golden, found) >= golden.least_matched
    assert [f["n"] for f in found] == [e["n"] for e in golden.record["predictions"]]
    assert largest_area_error(golden, found) <= golden.area_tolerance
    if hasattr(detector, "start_epoch"):
        detector.start_epoch(golden.record.get("epoch", 0))
    values, norms = losses(detector, golden)
    assert loss_error(golden, values) <= golden.loss_tolerance
    assert gradient_error(golden, norms) <= golden.gradient_tolerance
    assert set(golden.record["losses"]) == set(values)
