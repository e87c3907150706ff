"""Small detectors of the families that export, and what torch and onnxruntime find with them.

`python -m tests.deploy.families` writes the table of docs/deploy.md; names after it choose rows.
"""

import copy
import json
import sys
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from onnx import ModelProto
from torch import Tensor, nn

from fastdet.compat.models import translate_model
from fastdet.compat.v2_model import upgrade_model
from fastdet.config.configdict import adopt
from fastdet.deploy.graph import GraphOptions
from fastdet.deploy.metadata import Metadata
from fastdet.deploy.onnx_file import export_model
from fastdet.deploy.runtime import DeployedDetector, OnnxSession
from fastdet.deploy.verify import Comparison, Limits, compare
from fastdet.models import set_sampling_order
from fastdet.registry import DETECTORS, MODEL_PARTS, build
from fastdet.structures import Batch, Detections
from fastdet.tools.small import thinned, with_classes
from tests.golden import recipe
from tests.golden.configs import dense, dense_direct, two_stage
from tests.golden.harness import FOLDER

Model = dict[str, Any]
CHANNELS = [64, 128, 256, 512]
CLASSES = 8
SIZE = 128
SIZES = {"ssd300": 300, "ssdlite": 320}
WHOLE = ("ssd300", "yolov3", "ssdlite")  # backbones without a width to divide
PROPOSALS = {"nms_pre": 200, "max_per_img": 60}


def of_record(name: str) -> Callable[[], Model]:
    """The model of a record in `tests/golden/families`."""

    def read() -> Model:
        return json.loads((FOLDER / "families" / f"{name}.json").read_text())["model"]

    return read


def of_18(make: Callable[[int, list[int]], Model]) -> Callable[[], Model]:
    """A two-stage model of ResNet-18."""
    return lambda: make(18, CHANNELS)


def of_18_dense(make: Callable[[], Model]) -> Callable[[], Model]:
    """A dense model of ResNet-50 with ResNet-18."""

    def read() -> Model:
        model = copy.deepcopy(make())
        model["backbone"] = model["backbone"] | {"depth": 18, "style": "pytorch"}
        model["neck"]["in_channels"] = CHANNELS
        return model

    return read


def with_soft_nms() -> Model:
    """Faster R-CNN whose overlapping detections lose score."""
    model = copy.deepcopy(two_stage.faster_rcnn(18, CHANNELS))
    model["test_cfg"]["rcnn"] |= dict(nms=dict(type="soft_nms", iou_threshold=0.5), max_per_img=30)  # noqa: C408
    return model


FAMILIES: dict[str, Callable[[], Model]] = {
    "retinanet": dense.retinanet_r18,
    "fcos": dense_direct.fcos_r18,
    "atss": of_18_dense(dense_direct.atss_r50),
    "gfl": of_18_dense(dense_direct.gfl_r50),
    "vfnet": of_record("vfnet__vfnet_r50_fpn_1x_coco"),
    "tood": of_record("tood__tood_r50_fpn_1x_coco"),
    "paa": of_record("paa__paa_r50_fpn_1x_coco"),
    "foveabox": of_record("foveabox__fovea_r50_fpn_4xb4-1x_coco"),
    "free_anchor": of_record("free_anchor__freeanchor_r50_fpn_1x_coco"),
    "reppoints": of_record("reppoints__reppoints-moment_r50_fpn_1x_coco"),
    "sabl_retinanet": of_record("sabl__sabl-retinanet_r50_fpn_1x_coco"),
    "ga_retinanet": of_record("guided_anchoring__ga-retinanet_r50_fpn_1x_coco"),
    "libra_retinanet": of_record("libra_rcnn__libra-retinanet_r50_fpn_1x_coco"),
    "nas_fpn": of_record("nas_fpn__retinanet_r50_nasfpn_crop640-50e_coco"),
    "pvt": of_record("pvt__retinanet_pvtv2-b0_fpn_1x_coco"),
    "swin": of_record("swin__retinanet_swin-t-p4-w7_fpn_1x_coco"),
    "regnet": of_record("regnet__retinanet_regnetx-800MF_fpn_1x_coco"),
    "hrnet": of_record("hrnet__fcos_hrnetv2p-w18-gn-head_4xb4-1x_coco"),
    "ssd300": of_record("ssd__ssd300_coco"),
    "ssdlite": of_record("ssd__ssdlite_mobilenetv2-scratch_8xb24-600e_coco"),
    "yolov3": of_record("yolo__yolov3_mobilenetv2_8xb24-ms-416-300e_coco"),
    "yolox": dense_direct.yolox_nano,
    "faster_rcnn": of_18(two_stage.faster_rcnn),
    "mask_rcnn": of_18(two_stage.mask_rcnn),
    "soft_nms": with_soft_nms,
    "cascade_rcnn": of_18(two_stage.sabl_cascade),
    "cascade_mask_rcnn": of_18(two_stage.cascade_mask_rcnn),
    "htc": of_record("htc__htc-without-semantic_r50_fpn_1x_coco"),
    "htc_semantic": of_record("htc__htc_r50_fpn_1x_coco"),
    "double_head": of_18(two_stage.double_head),
    "dcn": of_record("dcnv2__faster-rcnn_r50-mdconv-c3-c5_fpn_1x_coco"),
    "dcn_cascade": lambda: two_stage.deformable_cascade(50, [256, 512, 1024, 2048]),
    "grid_rcnn": of_record("grid_rcnn__grid-rcnn_r50_fpn_gn-head_1x_coco"),
    "mask_scoring": of_record("ms_rcnn__ms-rcnn_r50_fpn_1x_coco"),
    "sabl_faster": of_record("sabl__sabl-faster-rcnn_r50_fpn_1x_coco"),
    "ga_faster": of_record("guided_anchoring__ga-faster-rcnn_r50_fpn_1x_coco"),
    "libra_rcnn": of_record("libra_rcnn__libra-faster-rcnn_r50_fpn_1x_coco"),
    "dynamic_rcnn": of_record("dynamic_rcnn__dynamic-rcnn_r50_fpn_1x_coco"),
    "groie": of_record("groie__faste-rcnn_r50_fpn_groie_1x_coco"),
    "pafpn": of_record("pafpn__faster-rcnn_r50_pafpn_1x_coco"),
    "gn_ws": of_record("gn+ws__faster-rcnn_r50_fpn_gn-ws-all_1x_coco"),
    "seesaw": of_record("seesaw_loss__mask-rcnn_r50_fpn_seesaw-loss_random-ms-2x_lvis-v1"),
    "legacy": of_record("legacy_1.x__mask-rcnn_r50_fpn_1x_coco_v1"),
}


class Exported(NamedTuple):
    """A detector beside its graph."""

    detector: nn.Module
    model: ModelProto
    metadata: Metadata


class Outcome(NamedTuple):
    """What came of a comparison."""

    comparison: Comparison
    exact: list[int]
    with_masks: tuple[bool, bool]  # of torch and of onnxruntime


def small(name: str, thin: int = 4) -> nn.Module:
    """The family's detector with few classes, thin layers and the weights of the goldens."""
    model = copy.deepcopy(FAMILIES[name]())
    if "rpn" in model.get("test_cfg", {}):
        model["test_cfg"]["rpn"].update(PROPOSALS)
    current = adopt(model)
    upgrade_model(current)
    spec, _ = translate_model(current)
    spec = with_classes(spec, CLASSES)
    if name not in WHOLE:
        spec = thinned(spec, thin)
    detector = build(spec, (DETECTORS, *MODEL_PARTS))
    recipe.fill(detector)
    set_sampling_order(detector, "index")
    return detector.eval()


def pictures(size: int) -> tuple[Tensor, Tensor]:
    """Uint8 pixels [4, 3, H, W] and sizes: a crowd of blocks, a padded one, one of one colour, and one of equal tiles,
    whose equal scores tie.
    """
    generator = torch.Generator().manual_seed(0)
    blocks = torch.rand(4, 3, size // 8 + 1, size // 8 + 1, generator=generator) * 255
    pixels = blocks.repeat_interleave(8, 2).repeat_interleave(8, 3)[:, :, :size, :size].byte().contiguous()
    pixels[2] = 114
    times = -(-size // 32)
    pixels[3] = pixels[0, :, :32, :32].repeat(1, times, times)[:, :size, :size]
    return pixels, torch.tensor([[size, size], [size - 28, size - 17], [size, size - 40], [size, size]])


def metadata_of(options: GraphOptions, precision: str = "fp32") -> Metadata:
    """A record without classes and transforms."""
    return Metadata(
        classes=(), transforms=(), shape=options.shape, layout=options.layout, whole_images=options.whole_images,
        pad_divisor=32, mask_threshold=0.5, candidates=options.candidates, rounds=options.rounds,
        precision=precision,
    )  # fmt: skip


def export(name: str, precision: str = "fp32", size: int | None = None, thin: int = 4) -> Exported:
    """A family's small detector and its graph.

    Args:
        size: of the square input; None: the family's.
    """
    side = size or SIZES.get(name, SIZE)
    detector = small(name, thin)
    options = GraphOptions(shape=(side, side), candidates=3000)
    metadata = metadata_of(options, precision)
    return Exported(detector, export_model(detector, options, metadata), metadata)


def prove(exported: Exported, limits: Limits) -> Outcome:
    """Compares the detector with its graph in onnxruntime, on the pictures."""
    detector, model, metadata = exported
    deployed = DeployedDetector(OnnxSession(model.SerializeToString()), metadata, "model")
    pixels, sizes = pictures(metadata.shape[0])
    found: list[dict[str, np.ndarray]] = []
    own: list[Detections] = []
    for chosen in (slice(0, 3), slice(3, 4)):
        found.append(deployed.run(pixels[chosen], sizes[chosen]))
        with torch.inference_mode():
            own.append(detector.predict(Batch(pixels[chosen], sizes[chosen], None, ())))  # type: ignore[operator]
    results = [deployed.detections(outputs) for outputs in found]
    number = results[0].boxes.shape[1]
    expected = [
        Detections(*(part[:, :number] for part in one[:3]), one.count.clamp(max=number), one.masks) for one in own
    ]
    exact = [int(value) for outputs in found for value in outputs["exact"]]
    with_masks = (own[0].masks is not None, results[0].masks is not None)
    return Outcome(compare(expected, results, limits, exact.count(0)), exact, with_masks)


def row(name: str) -> str:
    """A line of the table."""
    try:
        exported = export(name)
        outcome = prove(exported, Limits())
    except Exception as problem:
        return f"| {name} | {type(problem).__name__}: {str(problem).splitlines()[0][:300]} | | | | |"
    c = outcome.comparison
    masks = f"{c.mask_error:.0e}" if outcome.with_masks[1] else ""
    return (
        f"| {name} | {c.matched} of {c.expected} | {c.box_error:.0e} | {c.score_error:.0e} | {masks} | "
        f"{outcome.exact.count(1)} of {len(outcome.exact)} |"
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for family in sys.argv[1:] or FAMILIES:
        print(row(family), flush=True)
