"""The graph that is exported: a detector's own prediction, from uint8 pictures to detections of fixed shape.

Letters: B images, K detections, S side of a mask, H and W pixels of the size bucket.
"""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fastdet.structures import Batch, Detections
from fastdet.utils.errors import FastdetError, UnsupportedConfig

Layout = Literal["hwc", "chw"]
OUTPUTS = ("boxes", "scores", "labels", "num", "masks")
"""Names of what `ExportModule` gives; the last one of detectors with masks alone."""


@dataclass(frozen=True, kw_only=True)
class GraphOptions:
    """What the graph of one size bucket looks like.

    Args:
        shape: (H, W) of the input.
        layout: of the input: "hwc" as OpenCV decodes, or "chw".
        whole_images: every picture fills the bucket, so there is no input `sizes`.
        candidates: boxes that suppression looks at, the best of each image; `exact` says whether they sufficed.
        rounds: of the fixed-point suppression; `exact` says whether it settled.
        max_detections: K of detectors that keep as many detections as they have priors.
        least_shape: (H, W) of the smallest input of a graph for all sizes up to `shape`; None: `shape` is the only one.
    """

    shape: tuple[int, int]
    layout: Layout = "hwc"
    whole_images: bool = False
    candidates: int = 1000
    rounds: int = 16
    max_detections: int = 300
    least_shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name in ("candidates", "rounds", "max_detections"):
            if getattr(self, name) < 1:
                raise FastdetError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.least_shape is None:
            return
        if any(least > most for least, most in zip(self.least_shape, self.shape, strict=True)):
            raise FastdetError(f"--dynamic-hw: the least shape {self.least_shape} is larger than {self.shape}")
        if self.whole_images:
            raise FastdetError("--whole-images is for graphs of one size, not for --dynamic-hw")

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Of one image."""
        height, width = self.shape
        return (height, width, 3) if self.layout == "hwc" else (3, height, width)


class ExportModule(nn.Module):
    """A detector as a function of tensors alone.

    Args:
        detector: in evaluation mode.
        options: of the graph.

    Raises:
        UnsupportedConfig: a detector without a first stage of its own.
        FastdetError: a shape that the detector does not take.
    """

    def __init__(self, detector: nn.Module, options: GraphOptions) -> None:
        super().__init__()
        check_shape(detector, options.shape)
        check_shape(detector, options.least_shape or options.shape)
        if not hasattr(detector, "dense") and not hasattr(detector, "rpn"):
            raise UnsupportedConfig(
                f"{type(detector).__name__} takes proposals from outside, so it cannot be exported: export a detector "
                "that finds them itself, such as Faster R-CNN"
            )
        self.detector = _limited(detector, options.max_detections) if options.least_shape else detector
        self.options = options

    def forward(self, images: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
        """Boxes [B, K, 4], scores [B, K], labels [B, K] int32, num [B] int32, and masks [B, K, S, S] if there are any.

        Args:
            images: uint8 BGR, [B, H, W, 3] or [B, 3, H, W].
            sizes: (H, W) of each picture without padding, [B, 2] int32; None: they fill the bucket.
        """
        found = self.predict(images, sizes)
        number = min(found.boxes.shape[1], self._most())
        parts: tuple[Tensor, ...] = (
            found.boxes[:, :number].float(),
            found.scores[:, :number].float(),
            found.labels[:, :number].int(),
            torch.minimum(found.count, torch.tensor(number)).int(),
        )
        return parts if found.masks is None else (*parts, found.masks[:, :number].float())

    def predict(self, images: Tensor, sizes: Tensor | None = None) -> Detections:
        """The detector's own detections."""
        pixels = images.float()  # before all else: TensorRT casts uint8, and does nothing more with it
        if self.options.layout == "hwc":
            pixels = pixels.permute(0, 3, 1, 2)
        if sizes is None:
            sizes = torch.tensor(self.options.shape, device=images.device).expand(images.shape[0], 2)
        return self.detector.predict(Batch(pixels, sizes.long(), None, ()))  # type: ignore[operator]

    def _most(self) -> int:
        """The most detections that the graph gives."""
        return self.options.max_detections if _is_unlimited(_last_stage(self.detector)) else 1 << 30


def _last_stage(detector: nn.Module) -> Any:
    return getattr(detector, "roi", None) or detector.dense


def _is_unlimited(stage: Any) -> bool:
    """Whether a stage keeps as many detections as there are priors."""
    return getattr(getattr(stage, "postprocess", None), "max_per_img", 0) is None


def _limited(detector: nn.Module, number: int) -> nn.Module:
    """The detector, or one that keeps so many detections if it keeps all: a graph of any size has one K."""
    if not _is_unlimited(_last_stage(detector)):
        return detector
    copied = copy.deepcopy(detector)
    _last_stage(copied).postprocess.max_per_img = number
    return copied


def check_shape(detector: nn.Module, shape: tuple[int, int]) -> None:
    """Raises FastdetError for a size that is not a multiple of what the detector pads to."""
    divisor: int = detector.preprocess.pad_divisor  # type: ignore[assignment, union-attr]
    if min(shape) < 1 or any(side % divisor for side in shape):
        near = tuple(max(1, -(-side // divisor)) * divisor for side in shape)
        raise FastdetError(
            f"--shape {shape[0]} {shape[1]}: this detector takes sizes that are multiples of {divisor}; "
            f"the next ones are {near[0]} {near[1]}"
        )


def example_inputs(options: GraphOptions, batch: int = 2) -> tuple[Tensor, ...]:
    """Inputs of the right shapes and types, of different height and width if they are dynamic."""
    images = torch.zeros(batch, *options.input_shape, dtype=torch.uint8)
    return (images,) if options.whole_images else (images, torch.tensor([options.shape] * batch, dtype=torch.int32))


@contextmanager
def quiet() -> Iterator[None]:
    """Leaves out what torch says about itself while it traces."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*LeafSpec.* is deprecated", category=FutureWarning)
        yield


def export_program(module: ExportModule) -> torch.export.ExportedProgram:
    """The program of a detector. The batch is dynamic, and height and width too if the options have a least shape.

    Raises:
        UnsupportedConfig: a part cannot be exported, with torch's reason.
    """
    options = module.options
    batch = torch.export.Dim("batch", min=1, max=4096)
    shapes: list[dict[int, Any]] = [{0: batch}, {0: batch}]
    if options.least_shape is not None:
        shapes[0] |= _open_sides(options, module.detector.preprocess.pad_divisor)  # type: ignore[union-attr, arg-type]
    inputs = example_inputs(options)
    try:
        with torch.no_grad(), quiet():
            return torch.export.export(module.eval(), inputs, dynamic_shapes=tuple(shapes[: len(inputs)]), strict=False)
    except Exception as problem:
        reason = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
        fix = "; give --shape for each size instead of --dynamic-hw" if options.least_shape else ""
        raise UnsupportedConfig(f"this detector cannot be exported: {reason}{fix}") from problem


def _open_sides(options: GraphOptions, divisor: int) -> dict[int, Any]:
    """The dynamic height and width of the images, by dimension: multiples of the divisor within the shapes."""
    assert options.least_shape is not None
    first = 1 if options.layout == "hwc" else 2
    sides = {}
    for place, (name, least, most) in enumerate(
        zip(("height", "width"), options.least_shape, options.shape, strict=True), first
    ):
        if least < most:
            sides[place] = divisor * torch.export.Dim(f"{name}_cells", min=least // divisor, max=most // divisor)
    return sides
