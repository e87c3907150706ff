"""The graph that is exported: a detector's own prediction, from uint8 pictures to detections of fixed shape.

Letters: B images, K detections, S side of a mask, H and W pixels of the size bucket.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fastdet.structures import Batch, Detections
from fastdet.utils.errors import FastdetError, UnsupportedConfig

Layout = Literal["hwc", "chw"]


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
    """

    shape: tuple[int, int]
    layout: Layout = "hwc"
    whole_images: bool = False
    candidates: int = 1000
    rounds: int = 16
    max_detections: int = 300

    def __post_init__(self) -> None:
        for name in ("candidates", "rounds", "max_detections"):
            if getattr(self, name) < 1:
                raise FastdetError(f"{name} must be at least 1, not {getattr(self, name)}")

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
        if not hasattr(detector, "dense") and not hasattr(detector, "rpn"):
            raise UnsupportedConfig(
                f"{type(detector).__name__} takes proposals from outside, so it cannot be exported: export a detector "
                "that finds them itself, such as Faster R-CNN"
            )
        self.detector = detector
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
        stage = getattr(self.detector, "roi", None) or self.detector.dense
        postprocess = getattr(stage, "postprocess", None)
        unlimited = postprocess is not None and getattr(postprocess, "max_per_img", 0) is None
        return self.options.max_detections if unlimited else 1 << 30


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
    """Inputs of the right shapes and types."""
    images = torch.zeros(batch, *options.input_shape, dtype=torch.uint8)
    return (images,) if options.whole_images else (images, torch.tensor([options.shape] * batch, dtype=torch.int32))


@contextmanager
def quiet() -> Iterator[None]:
    """Leaves out what torch says about itself while it traces."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*LeafSpec.* is deprecated", category=FutureWarning)
        yield


def export_program(module: nn.Module, inputs: Sequence[Tensor]) -> torch.export.ExportedProgram:
    """The program of a module whose inputs have one dynamic size, the first of each: the batch.

    Raises:
        UnsupportedConfig: a part cannot be exported, with torch's reason.
    """
    batch = torch.export.Dim("batch", min=1, max=4096)
    try:
        with torch.no_grad(), quiet():
            return torch.export.export(
                module.eval(), tuple(inputs), dynamic_shapes=tuple({0: batch} for _ in inputs), strict=False
            )
    except Exception as problem:
        reason = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
        raise UnsupportedConfig(f"this detector cannot be exported: {reason}") from problem
