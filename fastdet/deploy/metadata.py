"""What an exported file says of itself, so that it can be run without its config.

The record is JSON: under the key `fastdet` of an ONNX file's metadata, and beside an engine.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from fastdet import __version__
from fastdet.registry import Spec, freeze
from fastdet.utils.errors import CheckpointError

KEY = "fastdet"
FORMAT = 1
EXPORTED = (".onnx", ".pt2", ".engine")
"""How names of exported detectors end."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """One exported graph.

    Args:
        classes: names in label order.
        transforms: Specs of what happens to a picture before the network, as plain dicts.
        shape: (H, W) of the input.
        layout: of the input: "hwc" or "chw".
        whole_images: whether there is no input `sizes`.
        pad_divisor: what the detector pads to.
        mask_threshold: least probability of a pixel of an instance.
        precision: of the network's dense part: fp32, fp16, bf16 or int8.
        candidates, rounds: of the suppression.
        settings: the detector's thresholds, for readers.
        source: names of config and checkpoint.
        versions: of what wrote the file.
        least_shape, usual_shape: of a graph for pictures of several sizes, of which `shape` is the greatest; None: one.
    """

    classes: tuple[str, ...]
    transforms: tuple[dict[str, Any], ...]
    shape: tuple[int, int]
    layout: str
    whole_images: bool
    pad_divisor: int
    mask_threshold: float
    candidates: int
    rounds: int
    precision: str = "fp32"
    settings: dict[str, Any] = field(default_factory=dict)
    source: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=lambda: {"fastdet": __version__, "torch": torch.__version__})
    least_shape: tuple[int, int] | None = None
    usual_shape: tuple[int, int] | None = None

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) of the input for pictures of at most this size."""
        if self.least_shape is None:
            return self.shape
        sides = zip((height, width), self.least_shape, self.shape, strict=True)
        whole = (min(max(-(-side // self.pad_divisor) * self.pad_divisor, least), most) for side, least, most in sides)
        return next(whole), next(whole)

    def image_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Of one image of the input."""
        return (height, width, 3) if self.layout == "hwc" else (3, height, width)

    def to_json(self) -> str:
        """One line, with the version of this format."""
        return json.dumps({"format": FORMAT, **asdict(self)})

    def transform_specs(self) -> tuple[Spec, ...]:
        """The transforms, to build."""
        return tuple(freeze(spec) for spec in self.transforms)

    @classmethod
    def from_json(cls, text: str, file: str) -> "Metadata":
        """The record that `to_json` wrote.

        Raises:
            CheckpointError: another format.
        """
        content = json.loads(text)
        if content.pop("format", None) != FORMAT:
            raise CheckpointError(f"{file} was written by another version of fastdet: export it again")
        for name in ("shape", "least_shape", "usual_shape"):
            sides = content.get(name)
            content[name] = None if sides is None else tuple(sides)
        content["classes"] = tuple(content["classes"])
        content["transforms"] = tuple(content["transforms"])
        return cls(**content)


def is_exported(path: str | os.PathLike[str] | None) -> bool:
    """Whether a file or folder is an exported detector, not a checkpoint."""
    if path is None:
        return False
    name = os.fspath(path)
    return any(file.endswith(EXPORTED) for file in (os.listdir(name) if os.path.isdir(name) else (name,)))
