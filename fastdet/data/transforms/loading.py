"""Reading of pixels and annotations into a Sample."""

from dataclasses import replace
from typing import Literal

import numpy as np

from fastdet.data.images import read_image, read_map
from fastdet.data.masks import pad_masks, polygons_to_bitmap, resize_masks, rle_to_bitmap
from fastdet.registry import TRANSFORMS
from fastdet.structures import Sample
from fastdet.structures.sample import Segment
from fastdet.utils.errors import DataError


@TRANSFORMS.register()
class LoadImageFromFile:
    """Decodes the sample's file; a sample that has pixels already keeps them.

    Args:
        to_float32: give float32 pixels instead of uint8.
        color_type: "color" applies EXIF orientation, "color_ignore_orientation" does not.
        imdecode_backend: OpenCV is the only one.
    """

    def __init__(
        self,
        to_float32: bool = False,
        color_type: Literal["color", "color_ignore_orientation"] = "color",
        imdecode_backend: Literal["cv2"] = "cv2",
    ) -> None:
        if color_type not in ("color", "color_ignore_orientation"):
            raise ValueError(f"color_type must be 'color' or 'color_ignore_orientation', not {color_type!r}")
        if imdecode_backend != "cv2":
            raise ValueError(f"imdecode_backend must be 'cv2', not {imdecode_backend!r}")
        self.to_float32 = to_float32
        self.ignore_orientation = color_type == "color_ignore_orientation"

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        image = sample.image
        if image.size == 0:
            image = read_image(sample.path, ignore_orientation=self.ignore_orientation)
        if self.to_float32:
            image = image.astype(np.float32)
        return replace(sample, image=image, file_size=image.shape[:2])


@TRANSFORMS.register()
class LoadAnnotations:
    """Decides which annotations a sample carries, and turns its segments into masks.

    Boxes and labels come with the sample from the dataset and follow every transform from the start, so this part may
    stand before or after the resizing; MMDetection loads them in file pixels where it stands.

    Outlines that cannot be used (no polygon of three points, no RLE) make their object an ignored one with an empty
    mask, as in MMDetection. With `poly2mask=False` an RLE is such an outline too, also as there.

    Args:
        with_bbox: keep boxes; without them a sample has no objects.
        with_label: labels always go with boxes; False needs with_bbox=False.
        with_mask: make masks.
        with_seg: read the map with the class of every pixel, a picture whose values are the classes.
        poly2mask: make bitmaps of polygons here, at the size of the file (then resizing is by nearest neighbour);
            else polygons stay polygons until the batch is made.
        reduce_zero_label: class 0 of semantic maps counts nowhere, the others become one less.
        ignore_index: the value of semantic maps that counts nowhere; only 255.
    """

    def __init__(
        self,
        with_bbox: bool = True,
        with_label: bool = True,
        with_mask: bool = False,
        with_seg: bool = False,
        poly2mask: bool = True,
        reduce_zero_label: bool = False,
        ignore_index: int = 255,
    ) -> None:
        if ignore_index != 255:
            raise ValueError(f"ignore_index must be 255, which fills what is padded, not {ignore_index}")
        if with_bbox and not with_label:
            raise ValueError("with_label=False needs with_bbox=False: boxes without labels train nothing")
        self.with_bbox = with_bbox
        self.with_mask = with_mask
        self.with_seg = with_seg
        self.poly2mask = poly2mask
        self.reduce_zero_label = reduce_zero_label

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if not self.with_bbox:
            none = np.zeros(len(sample.boxes), bool)
            segments = None if sample.segments is None else ()
            sample = replace(
                sample,
                boxes=sample.boxes[none],
                labels=sample.labels[none],
                ignore=sample.ignore[none],
                segments=segments,
            )
        if self.with_seg:
            sample = self._with_semantic(sample)
        return self._with_masks(sample) if self.with_mask else sample

    def _with_semantic(self, sample: Sample) -> Sample:
        if sample.semantic_path is None:
            raise DataError(
                f"{sample.path}: LoadAnnotations(with_seg=True), but the dataset has no semantic maps\n"
                "  fix: data_prefix=dict(img=..., seg=...) of the dataset"
            )
        if sample.image.shape[:2] != sample.file_size or sample.flip is not None:
            raise ValueError("LoadAnnotations(with_seg=True) must stand before transforms that change the image")
        semantic = read_map(sample.semantic_path)
        if semantic.shape != sample.file_size:
            raise DataError(
                f"{sample.semantic_path}: a map of H x W = {semantic.shape[0]} x {semantic.shape[1]}, an image of "
                f"{sample.file_size[0]} x {sample.file_size[1]}"
            )
        if self.reduce_zero_label:
            # 0 becomes 255, and 255 stays: unsigned numbers wrap around.
            semantic = np.where(semantic == 255, np.uint8(255), semantic - np.uint8(1))
        return replace(sample, semantic=semantic)

    def _with_masks(self, sample: Sample) -> Sample:
        if sample.segments is None:
            if len(sample.boxes):
                raise DataError(
                    f"{sample.path}: LoadAnnotations(with_mask=True), but the annotations have no segmentation"
                )
            segments: tuple[Segment, ...] = ()
        else:
            segments = sample.segments
        if sample.flip is not None:
            raise ValueError("LoadAnnotations(with_mask=True) must stand before RandomFlip")
        keeps = [bool(s) and (self.poly2mask or isinstance(s, list)) for s in segments]
        ignore = sample.ignore | ~np.array(keeps, bool).reshape(-1)
        height, width = sample.file_size
        if self.poly2mask:
            masks = np.zeros((len(segments), height, width), np.uint8)
            for i, segment in enumerate(segments):
                masks[i] = _bitmap(segment, sample.file_size, sample.path)
            return replace(sample, ignore=ignore, masks=_follow(masks, sample))
        polygons = [list(s) if isinstance(s, list) else [] for s in segments]
        return replace(sample, ignore=ignore, masks=_follow(polygons, sample))


def _bitmap(segment: Segment, size: tuple[int, int], path: str) -> np.ndarray:
    if isinstance(segment, list):
        return polygons_to_bitmap(segment, size)
    height, width = segment["size"]
    if (height, width) != tuple(size):
        raise DataError(
            f"{path}: a mask of H x W = {height} x {width}, an image of {size[0]} x {size[1]}\n"
            "  fix: the annotation belongs to another version of the image, or ignores its EXIF orientation"
        )
    return rle_to_bitmap(segment)


def _follow(masks: np.ndarray | list[list[np.ndarray]], sample: Sample) -> np.ndarray | list[list[np.ndarray]]:
    """Masks in file pixels brought to the present image, which may have been resized and padded before."""
    present = sample.image.shape[:2]
    if sample.scale == (1.0, 1.0) and present == sample.file_size:
        return masks
    resized = round(sample.file_size[0] * sample.scale[1]), round(sample.file_size[1] * sample.scale[0])
    if resized[0] > present[0] or resized[1] > present[1]:
        raise ValueError("LoadAnnotations(with_mask=True) must stand before RandomCrop")
    return pad_masks(resize_masks(masks, sample.file_size, resized), present)


@TRANSFORMS.register()
class LoadProposals:
    """Keeps the best of the proposals that come with the image. Source: MMDetection `LoadProposals`.

    Args:
        num_max_proposals: how many, in the order of the file; None: all.
    """

    def __init__(self, num_max_proposals: int | None = None) -> None:
        self.num_max_proposals = num_max_proposals

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if sample.proposals is None:
            raise DataError(f"{sample.path}: LoadProposals, but the dataset has no proposals\n  fix: proposal_file=...")
        return replace(sample, proposals=sample.proposals[: self.num_max_proposals])
