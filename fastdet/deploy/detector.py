"""Exported detectors: the same `predict` as a detector that runs in torch."""

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

import fastdet.data.transforms  # noqa: F401  # registers the transforms that files name
from fastdet.data.collate import collate
from fastdet.data.pipeline import Image, Transform, prepare
from fastdet.deploy.fitting import Fitting, Pictures
from fastdet.deploy.metadata import Metadata
from fastdet.deploy.sessions import Session
from fastdet.deploy.slots import SlotSession
from fastdet.models.results import to_instances
from fastdet.registry import TRANSFORMS, build
from fastdet.structures import Batch, Detections, Instances, Result
from fastdet.utils.errors import DataError


class Redo(Protocol):
    """Computes again what a graph had no certificate for."""

    def run(self, images: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        """As a Session's."""
        ...


class _Padding:
    """What the collate function asks a detector's `preprocess` for."""

    def __init__(self) -> None:
        self.pad_divisor = 1
        self.train_size = None


class Deployed:
    """What exported detectors have in common. Safe to use from several threads.

    Args:
        metadata: what the file says of itself.

    Attributes:
        classes: names in label order.
        transforms: what happens to a picture before the graph.
        fitting: the same for a device; None where a device cannot do it.
    """

    def __init__(self, metadata: Metadata) -> None:
        self.metadata = metadata
        self.classes = metadata.classes
        self.mask_threshold = metadata.mask_threshold
        self.preprocess = _Padding()
        self.transforms: tuple[Transform, ...] = tuple(
            build(spec, (TRANSFORMS,), role="transform") for spec in metadata.transform_specs()
        )
        self.fitting = Fitting.of(self.transforms)

    def predict(self, images: Sequence[Image], batch_size: int | None = None) -> list[Result]:
        """Detects the objects of each picture; boxes and masks are in the picture's own pixels.

        Args:
            batch_size: pictures at once; None takes all in one batch.

        Raises:
            DataError: a picture cannot be read, or is larger than the graph after the transforms.
        """
        step = batch_size or max(1, len(images))
        results: list[Result] = []
        for start in range(0, len(images), step):
            chosen = images[start : start + step]
            pictures = self.fitting.read(chosen, start) if self.fitting is not None and self.on_gpu else None
            if pictures is not None:
                detections, metas = self.predict_pictures(pictures), pictures.metas
            else:
                samples = [prepare(image, self.transforms, index) for index, image in enumerate(chosen, start)]
                batch = collate(samples)
                detections, metas = self.predict_batch(batch), batch.metas
            instances = to_instances(detections, metas, self.mask_threshold)
            results += [Result(one, meta) for one, meta in zip(instances, metas, strict=True)]
        return results

    @property
    def on_gpu(self) -> bool:
        """Whether pictures are resized where the graph runs."""
        return False

    def predict_pictures(self, pictures: Pictures) -> Detections:
        """As `predict_batch`, of pictures that are not resized yet."""
        raise NotImplementedError

    def predict_instances(self, batch: Batch) -> list[Instances]:
        """Detections of each picture of a batch, in its own pixels."""
        return to_instances(self.predict_batch(batch), batch.metas, self.mask_threshold)

    def predict_batch(self, batch: Batch) -> Detections:
        """Detections of fixed shape, in pixels of the network input.

        Raises:
            DataError: the pictures are larger than the graph.
        """
        raise NotImplementedError


class DeployedDetector(Deployed):
    """An exported detector of one size.

    Args:
        session: runs the graph.
        metadata: what the file says of itself.
        name: of the file, for messages.
        redo: computes pictures again that the graph gives no certificate for; None: they stay as they are.

    Attributes:
        redone: how many pictures were computed again.
    """

    def __init__(self, session: Session, metadata: Metadata, name: str, redo: Redo | None = None) -> None:
        super().__init__(metadata)
        self.session = session
        self.name = name
        self.redo = redo
        self.redone = 0
        self._lock = threading.Lock()

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) that pictures are padded to, of a graph for several sizes the greatest."""
        return self.metadata.shape

    def predict_batch(self, batch: Batch) -> Detections:
        """See Deployed; proven for every picture, if there is a redo."""
        return self.detections(self.proven(self.run(batch.pixels, batch.sizes), batch.pixels, batch.sizes))

    @property
    def on_gpu(self) -> bool:
        """Whether images may be made where they are needed; on the CPU, OpenCV is faster."""
        return isinstance(self.session, SlotSession) and self.session.device.type == "cuda"

    def predict_pictures(self, pictures: Pictures) -> Detections:
        """Detections of pictures that are resized on the session's device, bit for bit as the transforms do it.

        Raises:
            DataError: the pictures are larger than the graph.
        """
        session = self.session
        assert isinstance(session, SlotSession)
        sizes = np.array([meta.input_size for meta in pictures.metas], np.int32)
        self._check_sizes(int(sizes[:, 0].max()), int(sizes[:, 1].max()), torch.from_numpy(sizes))
        first_channel = self.metadata.layout == "chw"
        shape = self.metadata.padded(int(sizes[:, 0].max()), int(sizes[:, 1].max()))
        values = Fitting.fit(pictures, shape, session.device, channels_first=first_channel)
        outputs = self._redone(session.run(values, sizes), lambda rows: values[rows].cpu().numpy(), sizes)
        return self.detections(outputs)

    def run(self, pixels: Tensor, sizes: Tensor) -> dict[str, np.ndarray]:
        """The graph's outputs for pixels [B, 3, h, w], which are padded to the graph's shape, and sizes [B, 2]."""
        return self.session.run(self._images(pixels, sizes), sizes.cpu().numpy().astype(np.int32))

    def proven(self, outputs: dict[str, np.ndarray], pixels: Tensor, sizes: Tensor) -> dict[str, np.ndarray]:
        """The outputs, with those of pictures whose `exact` is 0 computed again."""
        return self._redone(outputs, lambda rows: self._images(pixels[rows], sizes[rows]), sizes.cpu().numpy())

    def _redone(
        self, outputs: dict[str, np.ndarray], images: Callable[[np.ndarray], np.ndarray], sizes: np.ndarray
    ) -> dict[str, np.ndarray]:
        """The outputs; `images` gives those of some rows, for which there is no certificate."""
        doubtful = np.flatnonzero(outputs["exact"] == 0)
        if self.redo is None or not len(doubtful):
            return outputs
        again = self.redo.run(images(doubtful), sizes[doubtful].astype(np.int32))
        with self._lock:
            self.redone += len(doubtful)
        whole = {name: value.copy() for name, value in outputs.items()}
        for name, value in whole.items():
            value[doubtful] = again[name]
        return whole

    @staticmethod
    def detections(outputs: dict[str, np.ndarray]) -> Detections:
        """The record of a graph's outputs."""
        masks = outputs.get("masks")
        return Detections(
            torch.from_numpy(outputs["boxes"]),
            torch.from_numpy(outputs["scores"]),
            torch.from_numpy(outputs["labels"]).long(),
            torch.from_numpy(outputs["num"]).long(),
            None if masks is None else torch.from_numpy(masks),
        )

    def _images(self, pixels: Tensor, sizes: Tensor) -> np.ndarray:
        height, width = pixels.shape[2:]
        self._check_sizes(height, width, sizes)
        values = pixels.cpu().numpy()
        if values.dtype != np.uint8:
            values = np.clip(np.rint(values), 0, 255).astype(np.uint8)
        padded = np.zeros((len(values), 3, *self.metadata.padded(height, width)), np.uint8)
        padded[:, :, :height, :width] = values
        return np.ascontiguousarray(padded.transpose(0, 2, 3, 1)) if self.metadata.layout == "hwc" else padded

    def _check_sizes(self, height: int, width: int, sizes: Tensor) -> None:
        """Raises DataError for pictures that are too large, or too small where they must fill the graph."""
        most_h, most_w = self.shape
        if height > most_h or width > most_w:
            raise DataError(
                f"{self.name} takes pictures of up to {most_h} x {most_w} pixels (height x width) after its "
                f"transforms, and this batch is {height} x {width}: export with --shape {height} {width}"
            )
        if self.metadata.whole_images and bool((sizes.cpu() != torch.tensor(self.shape)).any()):
            raise DataError(
                f"{self.name} was exported with --whole-images, for pictures of exactly {most_h} x {most_w} pixels"
            )
