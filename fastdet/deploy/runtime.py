"""Exported detectors, ready to use: the same `predict` as a detector that runs in torch."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import torch
from torch import Tensor

import fastdet.data.transforms  # noqa: F401  # registers the transforms that files name
from fastdet.data.collate import collate
from fastdet.data.pipeline import Image, Transform, prepare
from fastdet.deploy.metadata import Metadata
from fastdet.deploy.onnx_file import read_metadata
from fastdet.models.results import to_instances
from fastdet.registry import TRANSFORMS, build
from fastdet.structures import Batch, Detections, Instances, Result
from fastdet.utils.errors import CheckpointError, DataError, EnvironmentProblem

SUFFIXES = (".onnx",)


class Session(Protocol):
    """Runs a graph; safe to call from several threads."""

    def run(self, images: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name, of uint8 images in the graph's layout and their sizes [B, 2] int32."""
        ...


class OnnxSession:
    """An ONNX file in onnxruntime.

    Args:
        content: the model, serialised, or the path of its file.
        threads: of a run; None: onnxruntime's choice.

    Raises:
        EnvironmentProblem: onnxruntime is missing.
        CheckpointError: onnxruntime does not take the file.
    """

    def __init__(self, content: bytes | str, threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as problem:
            raise EnvironmentProblem("ONNX files run in onnxruntime: pip install onnxruntime") from problem
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        providers = [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider")
                     if p in onnxruntime.get_available_providers()]  # fmt: skip
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=providers)
        except Exception as problem:  # onnxruntime's errors have no common class of their own
            name = content if isinstance(content, str) else "the model"
            raise CheckpointError(f"onnxruntime {onnxruntime.__version__} cannot load {name}: {problem}") from problem
        self._inputs = [value.name for value in self._session.get_inputs()]
        self._outputs = [value.name for value in self._session.get_outputs()]

    def run(self, images: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name; see Session."""
        given = {"images": images, "sizes": sizes}
        values = self._session.run(None, {name: given[name] for name in self._inputs})
        return dict(zip(self._outputs, values, strict=True))


class _Padding:
    """What the collate function asks a detector's `preprocess` for."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.pad_divisor = 1
        self.train_size = None
        self.shape = shape


class DeployedDetector:
    """An exported detector with its transforms and class names.

    Args:
        session: runs the graph.
        metadata: what the file says of itself.
        name: of the file, for messages.
    """

    def __init__(self, session: Session, metadata: Metadata, name: str) -> None:
        self.session = session
        self.metadata = metadata
        self.name = name
        self.classes = metadata.classes
        self.mask_threshold = metadata.mask_threshold
        self.preprocess = _Padding(metadata.shape)
        self.transforms: tuple[Transform, ...] = tuple(
            build(spec, (TRANSFORMS,), role="transform") for spec in metadata.transform_specs()
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) that pictures are padded to."""
        return self.metadata.shape

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
            chosen = enumerate(images[start : start + step], start)
            samples = [prepare(image, self.transforms, index) for index, image in chosen]
            batch = collate(samples, fixed_size=self.shape)
            found = self.predict_instances(batch)
            results += [Result(instances, meta) for instances, meta in zip(found, batch.metas, strict=True)]
        return results

    def predict_instances(self, batch: Batch) -> list[Instances]:
        """Detections of each picture of a batch, in its own pixels."""
        return to_instances(self.predict_batch(batch), batch.metas, self.mask_threshold)

    def predict_batch(self, batch: Batch) -> Detections:
        """Detections of fixed shape, in pixels of the network input.

        Raises:
            DataError: the pictures are larger than the graph.
        """
        return self.detections(self.run(batch.pixels, batch.sizes))

    def run(self, pixels: Tensor, sizes: Tensor) -> dict[str, np.ndarray]:
        """The graph's outputs for pixels [B, 3, h, w], which are padded to the graph's shape, and sizes [B, 2]."""
        return self.session.run(self._images(pixels, sizes), sizes.cpu().numpy().astype(np.int32))

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
        (height, width), (most_h, most_w) = pixels.shape[2:], self.shape
        if height > most_h or width > most_w:
            raise DataError(
                f"{self.name} takes pictures of up to {most_h} x {most_w} pixels (height x width) after its "
                f"transforms, and this batch is {height} x {width}: export with --shape {height} {width}"
            )
        if self.metadata.whole_images and bool((sizes.cpu() != torch.tensor(self.shape)).any()):
            raise DataError(
                f"{self.name} was exported with --whole-images, for pictures of exactly {most_h} x {most_w} pixels"
            )
        values = pixels.cpu().numpy()
        if values.dtype != np.uint8:
            values = np.clip(np.rint(values), 0, 255).astype(np.uint8)
        padded = np.zeros((len(values), 3, most_h, most_w), np.uint8)
        padded[:, :, :height, :width] = values
        return np.ascontiguousarray(padded.transpose(0, 2, 3, 1)) if self.metadata.layout == "hwc" else padded


def is_exported(name: Any) -> bool:
    """Whether a file's name is an exported detector's."""
    return isinstance(name, str | os.PathLike) and os.fspath(name).endswith(SUFFIXES)


def load(path: str | os.PathLike[str], threads: int | None = None) -> DeployedDetector:
    """An exported detector from its file; no config is needed.

    Args:
        threads: of a run on the CPU; None: the runtime's choice.

    Raises:
        CheckpointError: the file is missing, or was not written by fastdet.
        EnvironmentProblem: the runtime is missing.
    """
    file = os.fspath(path)
    if not Path(file).is_file():
        raise CheckpointError(f"{file} is no file: make it with `python -m fastdet.export CFG CKPT --output {file}`")
    if not is_exported(file):
        raise CheckpointError(f"{file} is no exported detector: their names end in {', '.join(SUFFIXES)}")
    try:
        metadata = read_metadata(onnx.load(file, load_external_data=False), file)
    except CheckpointError:
        raise
    except Exception as problem:  # protobuf's DecodeError lies in a module that moves between versions
        raise CheckpointError(f"{file} is damaged, or no ONNX file: {problem}") from problem
    return DeployedDetector(OnnxSession(file, threads), metadata, Path(file).name)
