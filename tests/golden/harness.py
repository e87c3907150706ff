"""Runs a detector on a golden's inputs, and says how far it is from the record and how far it may be."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastdet.compat.models import translate_model
from fastdet.models import set_sampling_order, set_tie_order
from fastdet.registry import DETECTORS, MODEL_PARTS, build
from tests.golden import recipe
from tests.golden.match import largest_error, matched_share

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


def build_filled(model: Mapping[str, Any]) -> nn.Module:
    """The detector of a `model` dict with the recipe's weights, which samples by index and sorts as the CPU does."""
    spec, _ = translate_model(model)
    detector = build(spec, (DETECTORS, *MODEL_PARTS))
    recipe.fill(detector)
    set_sampling_order(detector, "index")
    set_tie_order(detector, "sort")
    return detector


def predict(detector: nn.Module, golden: Golden) -> list[dict[str, Any]]:
    """Detections of both images, as the records hold them."""
    found = detector.eval().predict(recipe.batch(golden.record["num_classes"]))
    return [
        {"n": n, "boxes": boxes[:n].tolist(), "scores": scores[:n].tolist(), "labels": labels[:n].tolist()}
        for boxes, scores, labels, n in zip(found.boxes, found.scores, found.labels, found.count.tolist(), strict=True)
    ]


def lowest_match(golden: Golden, found: list[dict[str, Any]]) -> float:
    """The smaller share of matched detections of the two images."""
    return min(matched_share(e, f) for e, f in zip(golden.record["predictions"], found, strict=True))


def losses(detector: nn.Module, golden: Golden) -> tuple[dict[str, float], dict[str, float]]:
    """Losses with their total, and the norms of all gradients."""
    named = detector.train().loss(recipe.batch(golden.record["num_classes"]))
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
