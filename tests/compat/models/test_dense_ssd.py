"""SSD dicts become Specs: anchors that were known from numbers alone, training settings, refusals."""

from typing import Any

import pytest

from fastdet.compat.models import translate_model
from fastdet.registry import Spec
from fastdet.utils.errors import ConfigError, UnsupportedConfig
from tests.golden.configs.dense import retinanet_r18, ssd300


def test_an_ssd_is_a_single_stage_detector_with_hard_negatives() -> None:
    spec, _ = translate_model(ssd300())
    assert spec.type == "SingleStageDetector"
    head, stage = spec.args["bbox_head"], spec.args["dense"]
    assert head.type == "SSDHead"
    assert head.args["num_anchors"] == (4, 6, 6, 6, 4, 4)
    assert stage.args["criterion"] == Spec.of(
        "HardNegativeCriterion", loss_bbox=Spec.of("SmoothL1Loss"), neg_pos_ratio=3
    )
    assert stage.args["postprocess"].args["use_sigmoid"] is False
    assert stage.args["assigner"].args["gt_max_assign_all"] is False


def test_sizes_may_be_given_instead_of_the_input_size() -> None:
    model = ssd300()
    sizes = {"min_sizes": [1, 2, 3, 4, 5, 6], "max_sizes": [2, 3, 4, 5, 6, 7]}
    model["bbox_head"]["anchor_generator"] |= sizes
    priors = translate_model(model)[0].args["dense"].args["priors"]
    assert priors.args["min_sizes"] == (1, 2, 3, 4, 5, 6)
    assert "input_size" not in priors.args
    del model["bbox_head"]["anchor_generator"]["max_sizes"]
    with pytest.raises(ConfigError, match="min_sizes and max_sizes, or neither"):
        translate_model(model)


def test_the_same_detector_may_have_a_retina_head() -> None:
    model = retinanet_r18() | {"type": "SingleStageDetector"}
    assert translate_model(model) == translate_model(retinanet_r18())


@pytest.mark.parametrize(
    ("section", "change", "named"),
    [
        ("train_cfg", {"sampler": {"type": "RandomSampler", "num": 1, "pos_fraction": 0.5}}, "SSD looks at all priors"),
        ("bbox_head", {"reg_decoded_bbox": True}, "reg_decoded_bbox"),
        ("bbox_head", {"type": "YOLACTHead"}, "YOLACTHead"),
    ],
)
def test_what_is_not_run_is_refused(section: str, change: dict[str, Any], named: str) -> None:
    model = ssd300()
    model[section] |= change
    with pytest.raises(UnsupportedConfig, match=named):
        translate_model(model)
