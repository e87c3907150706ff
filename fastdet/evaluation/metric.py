"""What every metric can do, and the store of results that metrics are built on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from fastdet.structures import ImageMeta, Instances
from fastdet.structures.packed import PackedResult, pack_result
from fastdet.structures.precision import PrecisionRecall


@runtime_checkable
class Metric(Protocol):
    """Collects detections image by image and turns them into named numbers.

    In a distributed test every rank calls `update` with its images; the states of all ranks are gathered and merged
    into one metric, which computes. Images that the sampler repeated to fill the last batch count once.
    """

    def update(self, results: Sequence[Instances], metas: Sequence[ImageMeta]) -> None:
        """Adds a batch of detections in file pixels, with the images they belong to."""

    def compute(self) -> dict[str, float]:
        """The numbers by name, such as `coco/bbox_mAP`."""

    def state(self) -> list[PackedResult]:
        """What was collected, in a form that can be pickled and sent to another rank."""

    def merge(self, states: Sequence[list[PackedResult]]) -> None:
        """Adds the states of other ranks. This rank's own may be among them."""

    def reset(self) -> None:
        """Forgets everything that was collected."""

    @property
    def results(self) -> list[PackedResult]:
        """The detections of each image, in the order of the first update."""

    @property
    def curves(self) -> Mapping[str, PrecisionRecall]:
        """The precision-recall arrays of the last `compute`, by kind ("bbox", "segm")."""


class ResultStore:
    """Results by image id: the first one of an image stays, later ones are repetitions."""

    def __init__(self) -> None:
        self._by_id: dict[int | str, PackedResult] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[PackedResult]:
        return iter(self._by_id.values())

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._by_id

    def get(self, image_id: int | str) -> PackedResult | None:
        """The result of an image, None if there is none yet."""
        return self._by_id.get(image_id)

    def add(self, results: Sequence[Instances], metas: Sequence[ImageMeta], *, with_masks: bool) -> None:
        """Packs and keeps a batch; images that are here already are skipped.

        Raises:
            ValueError: a different number of results and images.
        """
        if len(results) != len(metas):
            raise ValueError(f"update got {len(results)} results for {len(metas)} images: one for each is needed")
        for instances, meta in zip(results, metas, strict=True):
            if meta.image_id not in self._by_id:
                self._by_id[meta.image_id] = pack_result(instances, meta, with_masks=with_masks)

    def extend(self, states: Sequence[Sequence[PackedResult]]) -> None:
        """Adds packed results of other ranks."""
        for state in states:
            for result in state:
                self._by_id.setdefault(result.image_id, result)

    def clear(self) -> None:
        """Forgets everything."""
        self._by_id.clear()


class CollectingMetric:
    """Base of the metrics: collects detections by image; what is left to a metric is `compute`."""

    def __init__(self, *, with_masks: bool) -> None:
        self._store = ResultStore()
        self._with_masks = with_masks
        self._curves: dict[str, PrecisionRecall] = {}

    def update(self, results: Sequence[Instances], metas: Sequence[ImageMeta]) -> None:
        """Adds a batch; masks are packed where the metric wants them, and left out elsewhere."""
        self._store.add(results, metas, with_masks=self._with_masks)

    def state(self) -> list[PackedResult]:
        """The packed results."""
        return list(self._store)

    def merge(self, states: Sequence[list[PackedResult]]) -> None:
        """Adds other ranks' results; an image counts once."""
        self._store.extend(states)

    def reset(self) -> None:
        """Forgets the results."""
        self._store.clear()
        self._curves = {}

    @property
    def results(self) -> list[PackedResult]:
        """The detections of each image, in the order of the first update."""
        return list(self._store)

    @property
    def curves(self) -> Mapping[str, PrecisionRecall]:
        """The precision-recall arrays of the last `compute`, by kind."""
        return self._curves
