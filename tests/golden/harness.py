"""Runs a detector on a golden's inputs, and says how far it is from the record and how far it may be."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastdet.compat.models import translate_model
from fastdet.compat.v2_model import upgrade_model
from fastdet.config.configdict import adopt
from fastdet.models import set_sampling_order, set_tie_order
from fastdet.models.results import to_instances
from fastdet.models.stages import GridStage
from fastdet.registry import DETECTORS, MODEL_PARTS, Spec, build
from fastdet.structures import Batch, Instances
from tests.golden import recipe
from tests.golden.match import largest_area_difference, largest_error, matched_share

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Golden:
    """A record of MMDetection, and the repeatability of MMDetection itself on it."""

    name: str
    record: dict[str, Any]
    noise: dict[str, float]

    @classmethod
    def load(cls, name: str) -> "Golden":
        """The record of that name in this folder."""
        noise = json.loads((FOLDER / "noise.json").read_text())
        return cls(name, json.loads((FOLDER / f"{name}.json").read_text()), noise[name])

    @classmethod
    def family(cls, name: str) -> "Golden":
        """The record of that name in the folder `families`: it holds its model and its noise."""
        record = json.loads((FOLDER / "families" / f"{name}.json").read_text())
        return cls(name, record, record["noise"])

    @property
    def scene(self) -> recipe.Scene:
        """What the network was shown."""
        record = self.record
        sizes = tuple((h, w) for h, w in record.get("sizes", recipe.SIZES))
        return recipe.Scene(
            num_classes=record["num_classes"],
            sizes=sizes,
            num_proposals=record.get("proposals", 0),
            with_semantic=record.get("semantic", False),
        )

    @property
    def least_matched(self) -> float:
        """The share of detections that must be found."""
        return self.noise["matched"] - 0.02

    @property
    def loss_tolerance(self) -> float:
        """Relative."""
        return max(1e-3, 3 * self.noise["loss"])

    @property
    def gradient_tolerance(self) -> float:
        """Relative, of gradient norms; some records have none."""
        return max(1e-3, 3 * self.noise.get("grad", 0.0))

    @property
    def area_tolerance(self) -> int:
        """Pixels of a mask whose probability is within rounding of one half may fall on either side."""
        return max(2, 2 * int(self.noise.get("mask_area", 0)))


def spec_of(model: Mapping[str, Any]) -> Spec:
    """The Spec of a `model` dict."""
    current = adopt(model)
    upgrade_model(current)
    return translate_model(current)[0]


def build_filled(model: Mapping[str, Any]) -> nn.Module:
    """The detector of a `model` dict with the recipe's weights, which samples by index, sorts as the CPU does and
    leaves nothing to chance.
    """
    detector = build(spec_of(model), (DETECTORS, *MODEL_PARTS))
    recipe.fill(detector)
    # MMDetection's own filling left scales of standardised weights as a file without them does: those of the weights.
    plain = {k: v for k, v in detector.state_dict().items() if not k.endswith(("weight_gamma", "weight_beta"))}
    detector.load_state_dict(plain, strict=False)
    set_sampling_order(detector, "index")
    set_tie_order(detector, "sort")
    for module in detector.modules():
        if isinstance(module, GridStage):
            module.jitter = 0.0
    return detector


def batch_of(detector: nn.Module, golden: Golden) -> Batch:
    """What the network was shown, padded as the detector asks for."""
    return golden.scene.batch(detector.preprocess.pad_divisor)


def predict(detector: nn.Module, golden: Golden) -> list[dict[str, Any]]:
    """Detections of both images, as the records hold them."""
    batch = batch_of(detector, golden)
    detector.eval()
    results: list[Instances] = []
    # A guided anchor head of MMDetection masks all images of a batch alike: it predicted them one by one.
    for part in alone(batch, detector.preprocess.pad_divisor) if golden.record.get("alone") else [batch]:
        found = detector.predict(part)
        results += to_instances(found, part.metas, detector.mask_threshold if found.masks is not None else 0.5)
    return [
        {
            "n": len(result.scores),
            "boxes": result.bboxes.tolist(),
            "scores": result.scores.tolist(),
            "labels": result.labels.tolist(),
            "mask_area": None if result.masks is None else result.masks.flatten(1).sum(1).tolist(),
        }
        for result in results
    ]


def alone(batch: Batch, divisor: int) -> Iterator[Batch]:
    """Each image of a batch as a batch of its own, without targets."""
    for index, meta in enumerate(batch.metas):
        height, width = (-(-side // divisor) * divisor for side in meta.input_size)
        one = slice(index, index + 1)
        yield Batch(batch.pixels[one, :, :height, :width], batch.sizes[one], None, batch.metas[one])


def lowest_match(golden: Golden, found: list[dict[str, Any]]) -> float:
    """The smaller share of matched detections of the two images."""
    return min(matched_share(e, f) for e, f in zip(golden.record["predictions"], found, strict=True))


def largest_area_error(golden: Golden, found: list[dict[str, Any]]) -> int:
    """The largest difference of the areas of two masks that belong together, in pixels; 0 without masks."""
    pairs = [(e, f) for e, f in zip(golden.record["predictions"], found, strict=True) if "mask_area" in e]
    return max((largest_area_difference(e, f) for e, f in pairs), default=0)


def losses(detector: nn.Module, golden: Golden) -> tuple[dict[str, float], dict[str, float]]:
    """Losses with their total, and the norms of all gradients."""
    named = detector.train().loss(batch_of(detector, golden))
    total = torch.stack([value for name, value in named.items() if "loss" in name]).sum()
    detector.zero_grad()
    total.backward()
    values = {"loss": total.item(), **{name: value.item() for name, value in named.items()}}
    norms = {name: p.grad.norm().item() for name, p in detector.named_parameters() if p.grad is not None}
    return values, norms


def loss_error(golden: Golden, found: Mapping[str, float]) -> float:
    """The largest relative error of a loss; accuracies are not losses."""
    return largest_error({k: v for k, v in golden.record["losses"].items() if "acc" not in k}, found)


def gradient_error(golden: Golden, found: Mapping[str, float]) -> float:
    """The largest relative error of a gradient norm."""
    return largest_error(golden.record["grad_norms"], found)
