"""What TensorRT has to know of each kernel of `csrc/plugins`: parameters, shapes of the outputs, the launch.

An ahead-of-time plugin is one kernel, whose parameters are its inputs, then int32 numbers, then its outputs, all
contiguous. It has no workspace, so scratch memory is an output. Settings are compiled in.

A size is an int, or an expression of TensorRT's: functions here use nothing but +, * and //.

Letters: B images, N boxes, K slots, L levels, R RoIs, C channels, D groups of offsets, G groups, T taps.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

from fastdet.deploy.plugins.compiling import OLDEST_ARCHITECTURE, compile_ptx

Size = Any
Shape = Sequence[Size]

FEATURE = "feature"
"""The type of inputs and outputs which may be of half precision, the same for all of a node."""
FEATURE_TYPES = {"float32": "float", "float16": "__half", "bfloat16": "__nv_bfloat16"}
MOST_LEVELS = 8

_WALK_THREADS = 1024
_THREADS = 256
_VALUES_PER_THREAD = 4
_COLUMN_CHANNELS = 32


class Launch(NamedTuple):
    """How a kernel is called: blocks, threads of a block, and the numbers between inputs and outputs."""

    grid: tuple[Size, Size, Size]
    threads: int
    numbers: tuple[Size, ...]


class Plugin(Protocol):
    """A kernel with its settings."""

    source: ClassVar[str]
    entry: ClassVar[str]

    @property
    def inputs(self) -> Mapping[str, str]:
        """Name -> type, in the order of the parameters."""

    @property
    def outputs(self) -> Mapping[str, str]:
        """Likewise."""

    def macros(self) -> dict[str, str]:
        """Settings, as the source asks for them."""

    def output_shapes(self, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
        """Of inputs of these shapes."""

    def launch(self, shapes: Sequence[Shape]) -> Launch:
        """The call for inputs of these shapes."""


def name_of(plugin: Plugin) -> str:
    """A name that only equal plugins share."""
    digest = hashlib.sha256(repr(plugin).encode()).hexdigest()
    return f"{plugin.entry.removeprefix('fastdet_')}_{digest[:12]}"


def ptx_of(plugin: Plugin, feature: str | None = None, architecture: str = OLDEST_ARCHITECTURE) -> str:
    """The kernel's PTX.

    Args:
        feature: a key of FEATURE_TYPES, for plugins with such inputs.

    Raises:
        ValueError: the type is none that the kernels have.
        FastdetError: see compile_ptx.
    """
    macros = plugin.macros()
    if FEATURE in plugin.inputs.values():
        if feature not in FEATURE_TYPES:
            raise ValueError(f"{plugin.entry} takes features of {', '.join(FEATURE_TYPES)}, not of {feature}")
        macros["FASTDET_FEATURE"] = FEATURE_TYPES[feature]
    return compile_ptx(plugin.source, tuple(macros.items()), architecture)


@dataclass(frozen=True, kw_only=True)
class Suppression:
    """`ops.nms_padded` of any number of boxes: no candidates, no rounds, always exact.

    `exact` is 1; the last two outputs are scratch.

    Args:
        shared_groups: whether groups are [N], the same for all images, not [B, N].
    """

    iou_threshold: float
    max_output: int
    shared_groups: bool

    source: ClassVar[str] = "nms.cu"
    entry: ClassVar[str] = "fastdet_nms"
    inputs: ClassVar[Mapping[str, str]] = {
        "boxes": "float32",
        "scores": "float32",
        "groups": "int32",
        "valid": "int32",
    }
    outputs: ClassVar[Mapping[str, str]] = {
        "index": "int32",
        "count": "int32",
        "exact": "int32",
        "kept_boxes": "float32",
        "kept_groups": "int32",
    }

    def macros(self) -> dict[str, str]:
        return {
            "FASTDET_IOU_THRESHOLD": repr(self.iou_threshold),
            "FASTDET_MAX_OUTPUT": str(self.max_output),
            "FASTDET_SHARED_GROUPS": str(int(self.shared_groups)),
        }

    def output_shapes(self, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
        batch, slots = shapes[1][0], self.max_output
        return (batch, slots), (batch,), (batch,), (batch, slots, 4), (batch, slots)

    def launch(self, shapes: Sequence[Shape]) -> Launch:
        batch, boxes = shapes[1]
        return Launch((batch, 1, 1), _WALK_THREADS, (boxes,))


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """`ops.roi_align` with levels by the RoIs' size: RoIs [R, 5] and L maps [B, C, Hl, Wl] to [R, C, h, w]."""

    spatial_scales: tuple[float, ...]
    output_size: tuple[int, int]
    sampling_ratio: int
    aligned: bool
    finest_scale: float

    source: ClassVar[str] = "roi_align.cu"
    entry: ClassVar[str] = "fastdet_roi_align"
    outputs: ClassVar[Mapping[str, str]] = {"pooled": FEATURE}

    @property
    def inputs(self) -> Mapping[str, str]:
        return {"rois": "float32", **{f"map_{i}": FEATURE for i in range(len(self.spatial_scales))}}

    def macros(self) -> dict[str, str]:
        return {
            "FASTDET_LEVELS": str(len(self.spatial_scales)),
            "FASTDET_SCALES": "{" + ", ".join(map(repr, self.spatial_scales)) + "}",
            "FASTDET_OUT_H": str(self.output_size[0]),
            "FASTDET_OUT_W": str(self.output_size[1]),
            "FASTDET_SAMPLING_RATIO": str(self.sampling_ratio),
            "FASTDET_ALIGNED": str(int(self.aligned)),
            "FASTDET_FINEST_SCALE": repr(self.finest_scale),
        }

    def output_shapes(self, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
        return ((shapes[0][0], shapes[1][1], *self.output_size),)

    def launch(self, shapes: Sequence[Shape]) -> Launch:
        (rois, _), *maps = shapes
        batch, channels = maps[0][:2]
        values = channels * (self.output_size[0] * self.output_size[1])
        blocks = _blocks(values, _THREADS * _VALUES_PER_THREAD)
        sides = [side for shape in maps for side in shape[2:]]
        return Launch((rois, blocks, 1), _THREADS, (batch, channels, *sides))


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What `ops.deform_conv2d` multiplies with its weights: [B, G, C / G * T, H * W] of a map [B, C, h, w].

    Inputs are the map, offsets [B, D * T * 2, H, W], and a mask [B, D * T, H, W] if there is one.
    """

    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    offset_groups: int
    masked: bool

    source: ClassVar[str] = "deform_columns.cu"
    entry: ClassVar[str] = "fastdet_deform_columns"
    outputs: ClassVar[Mapping[str, str]] = {"columns": FEATURE}

    @property
    def inputs(self) -> Mapping[str, str]:
        return {"input": FEATURE, "offset": "float32", **({"mask": "float32"} if self.masked else {})}

    def macros(self) -> dict[str, str]:
        pairs = {
            "KERNEL": self.kernel_size,
            "STRIDE": self.stride,
            "PADDING": self.padding,
            "DILATION": self.dilation,
        }
        return {
            "FASTDET_MASK": str(int(self.masked)),
            "FASTDET_OFFSET_GROUPS": str(self.offset_groups),
            **{f"FASTDET_{name}_{axis}": str(pair[i]) for name, pair in pairs.items() for i, axis in enumerate("HW")},
        }

    def output_shapes(self, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
        (batch, channels), (_, _, out_h, out_w) = shapes[0][:2], shapes[1]
        taps = self.kernel_size[0] * self.kernel_size[1]
        return ((batch, self.groups, channels // self.groups * taps, out_h * out_w),)

    def launch(self, shapes: Sequence[Shape]) -> Launch:
        (batch, channels, height, width), (_, _, out_h, out_w) = shapes[:2]
        taps = self.kernel_size[0] * self.kernel_size[1]
        grid = (
            _blocks(out_h * out_w, _THREADS),
            batch * (self.offset_groups * taps),
            _blocks(channels // self.offset_groups, _COLUMN_CHANNELS),
        )
        return Launch(grid, _THREADS, (channels, height, width, out_h, out_w))


def _blocks(values: Size, per_block: int) -> Size:
    return (values + (per_block - 1)) // per_block
