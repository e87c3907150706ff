"""All annotations of a dataset in a few flat arrays, so that 100,000 images cost no 100,000 objects.

Worker processes share the arrays without copying them; records are views that are made when asked for.
Letters: T boxes of all images, N images.
"""

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastdet.data.masks import MIN_POLYGON_LENGTH, compress_rle
from fastdet.structures import ImageRecord
from fastdet.structures.sample import Segment


class SegmentColumn:
    """Outlines of all boxes: polygons in one float array, RLEs aside. An unusable outline is an empty polygon list."""

    def __init__(self) -> None:
        self._points = array("d")
        self._polygon_ends = array("q")  # one for each polygon: end in _points
        self._first_polygon = array("q", [0])  # one for each box, and the end
        self._rles: dict[int, dict[str, Any]] = {}

    def append(self, segmentation: Any) -> bool:
        """Adds a box's outline as a COCO file has it; False if it is missing or unusable.

        Polygons need an even number of at least 6 coordinates (three points), as in MMDetection; others are left out.
        """
        usable = False
        if isinstance(segmentation, dict):
            try:
                self._rles[len(self)] = compress_rle(segmentation)
                usable = True
            except ValueError:
                usable = False
        elif isinstance(segmentation, Sequence) and not isinstance(segmentation, str):
            for polygon in segmentation:
                if isinstance(polygon, Sequence) and len(polygon) >= MIN_POLYGON_LENGTH and len(polygon) % 2 == 0:
                    self._points.extend(polygon)
                    self._polygon_ends.append(len(self._points))
                    usable = True
        self._first_polygon.append(len(self._polygon_ends))
        return usable

    def __len__(self) -> int:
        return len(self._first_polygon) - 1

    def __getitem__(self, index: int) -> Segment:
        if index in self._rles:
            return self._rles[index]
        points = np.frombuffer(self._points, np.float64) if self._points else np.zeros(0)
        first, last = self._first_polygon[index], self._first_polygon[index + 1]
        ends = self._polygon_ends
        return [points[ends[k - 1] if k else 0 : ends[k]] for k in range(first, last)]


class AnnotationTable:
    """Images in file order with their boxes, filled once by a reader and then only read."""

    def __init__(self, *, with_segments: bool) -> None:
        self.image_ids: list[int | str] = []
        self.paths: list[str] = []
        self.segments = SegmentColumn() if with_segments else None
        self.semantic_paths: Sequence[str] | None = None
        self.proposals: Sequence[np.ndarray] | None = None
        self.group_of: np.ndarray | None = None
        self.verified: Sequence[np.ndarray] | None = None
        self._sizes = array("q")
        self._first_box = array("q", [0])
        self._boxes = array("f")
        self._labels = array("q")
        self._ignore = array("b")

    def add_image(self, image_id: int | str, path: str, height: int, width: int) -> None:
        """Starts an image; the boxes added next are its own."""
        self.image_ids.append(image_id)
        self.paths.append(path)
        self._sizes.extend((height, width))
        self._first_box.append(self._first_box[-1])

    def add_box(self, box: tuple[float, float, float, float], label: int, ignore: bool) -> None:
        """Adds an xyxy box in file pixels to the last image; its segment, if kept, is appended by the caller."""
        self._boxes.extend(box)
        self._labels.append(label)
        self._ignore.append(ignore)
        self._first_box[-1] += 1

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def num_boxes(self) -> int:
        """Boxes of all images, ignored ones included."""
        return len(self._labels)

    @property
    def sizes(self) -> np.ndarray:
        """[N, 2] int64: height and width as annotated."""
        return _view(self._sizes, np.int64).reshape(-1, 2)

    @property
    def boxes(self) -> np.ndarray:
        """[T, 4] float32 xyxy."""
        return _view(self._boxes, np.float32).reshape(-1, 4)

    @property
    def labels(self) -> np.ndarray:
        """[T] int64."""
        return _view(self._labels, np.int64)

    @property
    def ignore(self) -> np.ndarray:
        """[T] bool."""
        return _view(self._ignore, np.bool_)

    @property
    def first_box(self) -> np.ndarray:
        """[N + 1] int64: image i has the boxes first_box[i] to first_box[i + 1] - 1."""
        return _view(self._first_box, np.int64)

    def record(self, row: int) -> ImageRecord:
        """One image; its arrays are read-only views."""
        first, last = self._first_box[row], self._first_box[row + 1]
        segments = None
        if self.segments is not None:
            segments = tuple(self.segments[k] for k in range(first, last))
        return ImageRecord(
            self.image_ids[row], self.paths[row], self._sizes[2 * row], self._sizes[2 * row + 1],
            self.boxes[first:last], self.labels[first:last], self.ignore[first:last], segments,
            None if self.semantic_paths is None else self.semantic_paths[row],
            None if self.proposals is None else self.proposals[row],
            None if self.group_of is None else self.group_of[first:last],
            None if self.verified is None else self.verified[row],
        )  # fmt: skip


def _view(values: array, dtype: type) -> np.ndarray:
    """A read-only NumPy view; an empty array has no buffer to view."""
    out: np.ndarray = np.frombuffer(values, dtype) if len(values) else np.zeros(0, dtype)
    out.flags.writeable = False
    return out
