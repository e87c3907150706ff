"""Classifiers whose backbones detectors start from: Caffe2's ResNets, pycls' and timm's RegNets, timm's deep stems."""

import re
from collections.abc import Sequence

from fastdet.compat.checkpoints.origins.base import Origin, Rule, Weights

_BRANCHES = {"2a": 1, "2b": 2, "2c": 3}
_CAFFE_KINDS = {"w": "weight", "b": "bias", "s": "weight"}
_BLOCK = r"s(\d)\.b(\d+)\."
_NUMBERS = {"a": 1, "b": 2, "c": 3}


def _caffe2_rules(weights: Weights) -> Sequence[Rule]:
    return (
        (r"conv1_([wb])", lambda found: f"backbone.conv1.{_CAFFE_KINDS[found[1]]}"),
        (r"res_conv1_bn_([sb])", lambda found: f"backbone.bn1.{_CAFFE_KINDS[found[1]]}"),
        (r"res(\d)_(\d+)_branch(?P<branch>1|2[abc])_(?P<norm>bn_)?(?P<kind>[wbs])", _caffe2_layer),
        (r"(?:fc1000|pred)_([wb])", lambda found: f"backbone.fc.{_CAFFE_KINDS[found[1]]}"),
    )


def _caffe2_layer(found: re.Match[str]) -> str:
    if found["branch"] == "1":
        part = "downsample.1" if found["norm"] else "downsample.0"
    else:
        part = f"{'bn' if found['norm'] else 'conv'}{_BRANCHES[found['branch']]}"
    return f"backbone.layer{int(found[1]) - 1}.{found[2]}.{part}.{_CAFFE_KINDS[found['kind']]}"


CAFFE2 = Origin(
    title="Caffe2 (Detectron)",
    mark=re.compile(r"^res\d_\d+_branch2a_w$"),
    rules=_caffe2_rules,
)
"""Norms have scale and shift alone: their mean is 0 and their variance 1."""


def _pycls_rules(weights: Weights) -> Sequence[Rule]:
    return (
        (r"stem\.conv\.(\w+)", r"backbone.conv1.\1"),
        (r"stem\.bn\.(\w+)", r"backbone.bn1.\1"),
        (rf"{_BLOCK}proj\.(\w+)", lambda found: f"{_block(found)}.downsample.0.{found[3]}"),
        (rf"{_BLOCK}bn\.(\w+)", lambda found: f"{_block(found)}.downsample.1.{found[3]}"),
        (rf"{_BLOCK}f\.([abc])\.(\w+)", lambda found: f"{_block(found)}.conv{_NUMBERS[found[3]]}.{found[4]}"),
        (rf"{_BLOCK}f\.([abc])_bn\.(\w+)", lambda found: f"{_block(found)}.bn{_NUMBERS[found[3]]}.{found[4]}"),
        (r"head\.fc\.(\w+)", r"backbone.fc.\1"),
    )


def _timm_rules(weights: Weights) -> Sequence[Rule]:
    return (
        (r"stem\.conv\.(\w+)", r"backbone.conv1.\1"),
        (r"stem\.bn\.(\w+)", r"backbone.bn1.\1"),
        (rf"{_BLOCK}downsample\.conv\.(\w+)", lambda found: f"{_block(found)}.downsample.0.{found[3]}"),
        (rf"{_BLOCK}downsample\.bn\.(\w+)", lambda found: f"{_block(found)}.downsample.1.{found[3]}"),
        (rf"{_BLOCK}conv(\d)\.conv\.(\w+)", lambda found: f"{_block(found)}.conv{found[3]}.{found[4]}"),
        (rf"{_BLOCK}conv(\d)\.bn\.(\w+)", lambda found: f"{_block(found)}.bn{found[3]}.{found[4]}"),
        (r"head\.fc\.(\w+)", r"backbone.fc.\1"),
    )


def _block(found: re.Match[str]) -> str:
    """Stages and blocks are counted from 1."""
    return f"backbone.layer{found[1]}.{int(found[2]) - 1}"


def _stem_rules(weights: Weights) -> Sequence[Rule]:
    last = max(int(found[1]) for found in (re.match(r"conv1\.(\d)\.", name) for name in weights) if found)
    return (
        (r"conv1\.(\d)\.(\w+)", r"backbone.stem.\1.\2"),
        (r"bn1\.(\w+)", rf"backbone.stem.{last + 1}.\1"),
        (r"(layer\d\..+|fc\..+)", r"backbone.\1"),
    )


PYCLS = Origin(title="pycls", mark=re.compile(r"^s\d\.b\d+\.f\.a\.weight$"), rules=_pycls_rules)

TIMM_REGNET = Origin(title="timm", mark=re.compile(r"^s\d\.b\d+\.conv1\.conv\.weight$"), rules=_timm_rules)

TIMM_STEM = Origin(title="timm", mark=re.compile(r"^conv1\.3\.weight$"), rules=_stem_rules)
"""ResNet-D, Res2Net and ResNeSt, whose stem of three convolutions is called conv1 and bn1."""
