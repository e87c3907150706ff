"""The kernels on NumPy and DLPack arrays of the CPU. Arguments and results are those of fastdet.ops."""  # noqa: N999

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

def nms(boxes: Any, scores: Any, iou_threshold: float) -> NDArray[np.int64]: ...
def batched_nms(boxes: Any, scores: Any, groups: Any, iou_threshold: float) -> NDArray[np.int64]: ...
def nms_padded(
    boxes: Any, scores: Any, groups: Any | None, iou_threshold: float, max_output: int, valid: Any | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...
def roi_align(
    features: Sequence[Any],
    rois: Any,
    output_size: tuple[int, int],
    spatial_scales: Sequence[float],
    sampling_ratio: int = 0,
    aligned: bool = True,
    finest_scale: float = 56.0,
    levels: Any | None = None,
    pool_mode: str = "avg",
) -> NDArray[Any]: ...
def roi_pool(
    features: Sequence[Any],
    rois: Any,
    output_size: tuple[int, int],
    spatial_scales: Sequence[float],
    *,
    rounded: bool = True,
    finest_scale: float = 56.0,
    levels: Any | None = None,
) -> NDArray[Any]: ...
def grid_anchors(
    base_anchors: Any, sizes: Sequence[tuple[int, int]], strides: Sequence[tuple[float, float]]
) -> NDArray[np.float32]: ...
def crop_masks(
    bits: Any,
    offsets: Any,
    windows: Any,
    mask_index: Any,
    boxes: Any,
    output_size: int,
    image_size: tuple[int, int],
) -> NDArray[np.float32]: ...
def deform_conv2d(
    input: Any,
    offset: Any,
    weight: Any,
    bias: Any | None = None,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    mask: Any | None = None,
) -> NDArray[Any]: ...
def assign_max_iou(
    boxes: Any,
    objects: Any,
    valid: Any,
    *,
    positive: float,
    negative: tuple[float, float],
    min_positive: float = 0.0,
    match_low_quality: bool = True,
    all_ties: bool = True,
    candidates: Any | None = None,
    blocked: Any | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]: ...
def ms_deform_attn(
    value: Any, spatial_shapes: Sequence[tuple[int, int]], sampling_locations: Any, attention_weights: Any
) -> NDArray[Any]: ...
def dense_postprocess(
    logits: Any,
    codes: Any,
    priors: Any,
    image_sizes: Any,
    level_sizes: Sequence[tuple[int, int]],
    cell_priors: Sequence[int],
    strides: Sequence[tuple[float, float]] = (),
    *,
    code: str = "delta",
    code_numbers: Sequence[float] = ...,
    clips: bool = True,
    iou_threshold: float,
    max_output: int,
    limit: int = -1,
    score_threshold: float = -1.0,
    min_size: float = -1.0,
    quality: Any | None = None,
    rivals: str = "class",
    best_class: bool = False,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]: ...
def rpn_proposals(
    logits: Any,
    deltas: Any,
    base_anchors: Any,
    image_sizes: Any,
    level_sizes: Sequence[tuple[int, int]],
    strides: Sequence[tuple[float, float]],
    *,
    iou_threshold: float,
    max_output: int,
    limit: int = -1,
    min_size: float = -1.0,
    code_numbers: Sequence[float] = ...,
    clips: bool = True,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]: ...
def sigmoid_focal_loss(
    logits: Any, labels: Any, *, weight: Any | None = None, alpha: float | None = 0.25, gamma: float = 2.0
) -> NDArray[Any]: ...
def box_iou(first: Any, second: Any, *, kind: str = "iou", eps: float = 1e-6) -> NDArray[np.float32]: ...
def paired_box_iou(first: Any, second: Any, *, kind: str = "iou", eps: float = 1e-6) -> NDArray[np.float32]: ...
def soft_nms(
    boxes: Any,
    scores: Any,
    iou_threshold: float = 0.3,
    *,
    sigma: float = 0.5,
    min_score: float = 1e-3,
    method: str = "linear",
    groups: Any | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]: ...
def soft_nms_padded(
    boxes: Any,
    scores: Any,
    groups: Any | None,
    iou_threshold: float,
    max_output: int,
    valid: Any | None = None,
    *,
    sigma: float = 0.5,
    min_score: float = 1e-3,
    method: str = "linear",
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]: ...
def nms_match(boxes: Any, scores: Any, iou_threshold: float) -> NDArray[np.int64]: ...
def fit_images(
    pixels: Any, pictures: Any, sizes: Any, shape: tuple[int, int], *, channels_first: bool = False
) -> NDArray[np.uint8]: ...
def paste_masks(masks: Any, boxes: Any, size: tuple[int, int], threshold: float = 0.5) -> NDArray[np.bool_]: ...
def build_info() -> dict[str, str]: ...
