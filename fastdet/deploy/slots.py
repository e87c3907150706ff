"""One batch size of a graph on a device: buffers that stay, captured work, one copy back.

Letters: B images, W 32-bit words that an image's outputs take.
"""

import math
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

MOST_SLOTS = 8
"""Shapes of batches whose buffers are kept; the one that was not used for longest makes way."""
WARM_UP = 2
"""Runs before the capture, in which libraries choose their kernels and allocate."""

Launch = Callable[[], Sequence[Tensor]]
"""Enqueues the work on the current stream and gives its outputs [B, ...] of 32-bit types."""
Prepare = Callable[[Tensor, Tensor], Launch]
"""Makes the launch that reads these images and sizes."""


class CaptureError(RuntimeError):
    """The work cannot become a CUDA graph."""


class Field(NamedTuple):
    """Where an output lies in the words of an image."""

    name: str
    shape: tuple[int, ...]  # of one image
    dtype: torch.dtype

    @property
    def words(self) -> int:
        return math.prod(self.shape)


def pack(outputs: Sequence[Tensor]) -> Tensor:
    """All outputs in one tensor, float32 [B, W]; the bits of integers stay as they are."""
    rows = [values.contiguous().view(torch.float32).reshape(len(values), -1) for values in outputs]
    return torch.cat(rows, dim=1)


def unpack(words: np.ndarray, fields: Sequence[Field]) -> dict[str, np.ndarray]:
    """The outputs by name, of words [B, W]."""
    values, start = {}, 0
    for field in fields:
        part = np.ascontiguousarray(words[:, start : start + field.words])
        if field.dtype == torch.int32:
            part = part.view(np.int32)
        values[field.name] = part.reshape(len(words), *field.shape)
        start += field.words
    return values


class Slot:
    """Buffers for one batch size. On a GPU the work is captured once and replayed; not for several threads at once.

    Args:
        prepare: makes the launch for the slot's inputs.
        names: of the outputs.
        images: shape [B, ...] of the uint8 input.
        device: where the graph runs.
        capture: whether the launch may be captured; it is then not called again.
        pool: memory that captures share which never run at the same time; None: memory of its own.

    Raises:
        CaptureError: the work cannot be captured, as when it waits for the host.
    """

    def __init__(
        self,
        prepare: Prepare,
        names: Sequence[str],
        images: Sequence[int],
        device: torch.device,
        *,
        capture: bool = True,
        pool: Any = None,
    ) -> None:
        on_gpu = device.type == "cuda"
        self._images = torch.zeros(*images, dtype=torch.uint8, device=device)
        self._sizes = torch.ones(images[0], 2, dtype=torch.int32, device=device)
        self._staged = tuple(torch.empty_like(t, device="cpu", pin_memory=on_gpu) for t in (self._images, self._sizes))
        self._names = tuple(names)
        self._fields: tuple[Field, ...] = ()
        self._launch = prepare(self._images, self._sizes)
        self._stream = torch.cuda.Stream(device) if on_gpu else None
        self._graph: torch.cuda.CUDAGraph | None = None
        if self._stream is not None:
            self._begin(self._stream, capture, pool)

    def run(self, images: np.ndarray | Tensor, sizes: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name, of as many images as the slot is for; images of the device need no way through the host."""
        staged, staged_sizes = self._staged
        staged_sizes.copy_(torch.from_numpy(sizes))
        if isinstance(images, Tensor):
            source = images
        else:
            source = staged.copy_(torch.from_numpy(images))
        if self._stream is None:
            self._images.copy_(source)
            self._sizes.copy_(staged_sizes)
            words = self._work().numpy()
        else:
            self._stream.wait_stream(torch.cuda.current_stream(self._images.device))  # which may still make the images
            with torch.cuda.stream(self._stream):
                self._images.copy_(source, non_blocking=True)
                self._sizes.copy_(staged_sizes, non_blocking=True)
                if self._graph is not None:
                    self._graph.replay()
                else:
                    self._words = self._work()
                self._host.copy_(self._words, non_blocking=True)
                self._stream.synchronize()
            words = self._host.numpy().copy()
        return unpack(words, self._fields)

    def _work(self) -> Tensor:
        """Runs the launch; its outputs as words."""
        outputs = self._launch()
        self._fields = tuple(
            Field(name, tuple(values.shape[1:]), values.dtype)
            for name, values in zip(self._names, outputs, strict=True)
        )
        return pack(outputs)

    def _begin(self, stream: torch.cuda.Stream, capture: bool, pool: Any) -> None:
        """Lets libraries choose and allocate, then captures the work."""
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._words = self._work()
            stream.synchronize()
            if capture:
                self._graph = torch.cuda.CUDAGraph()
                try:
                    with torch.cuda.graph(self._graph, pool=pool, stream=stream):
                        self._words = self._work()
                except RuntimeError as problem:
                    raise CaptureError(str(problem).splitlines()[0]) from problem
        self._host = torch.empty_like(self._words, device="cpu", pin_memory=True)


class SlotSession:
    """A session (see `fastdet.deploy.sessions`) with a slot for each shape of batches. Threads take turns.

    Args:
        name: of the runtime.
        prepare: makes the launch for a slot's inputs.
        outputs: their names.
        device: where the graph runs.
        batches: least and greatest number of images at once; more are run part by part, fewer are filled up.
        capture: whether the work may become a CUDA graph.
        fixed: outputs that are the same for every image, by name.
    """

    def __init__(
        self,
        name: str,
        prepare: Prepare,
        outputs: Sequence[str],
        device: torch.device,
        *,
        batches: tuple[int, int] = (1, 64),
        capture: bool = True,
        fixed: dict[str, int] | None = None,
    ) -> None:
        self.name = name
        self._prepare = prepare
        self._outputs = tuple(outputs)
        self.device = device
        self._batches = batches
        self._capture = capture
        self._fixed = dict(fixed or {})
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" and capture else None
        self._slots: dict[tuple[int, ...], Slot] = {}
        self._lock = threading.Lock()

    def run(self, images: np.ndarray | Tensor, sizes: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name; see Session. Images may lie on the session's device."""
        least, most = self._batches
        parts = []
        for start in range(0, len(images), most):
            part_images, part_sizes = images[start : start + most], sizes[start : start + most]
            number = len(part_images)
            missing = max(0, least - number)
            if missing:
                part_images = _filled(part_images, missing)
                part_sizes = np.concatenate((part_sizes, np.repeat(part_sizes[-1:], missing, axis=0)))
            with self._lock, torch.inference_mode():
                found = self._slot(tuple(part_images.shape)).run(part_images, part_sizes)
            parts.append({name: values[:number] for name, values in found.items()})
        outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for name, value in self._fixed.items():
            outputs[name] = np.full(len(images), value, np.int32)
        return outputs

    def _slot(self, shape: tuple[int, ...]) -> Slot:
        slot = self._slots.pop(shape, None)
        if slot is None:
            if len(self._slots) == MOST_SLOTS:
                del self._slots[next(iter(self._slots))]
            slot = self._new_slot(shape)
        self._slots[shape] = slot  # the latest comes last
        return slot

    def _new_slot(self, shape: tuple[int, ...]) -> Slot:
        try:
            return Slot(self._prepare, self._outputs, shape, self.device, capture=self._capture, pool=self._pool)
        except CaptureError as problem:
            warnings.warn(f"{self.name} runs without a CUDA graph, so slower: {problem}", stacklevel=2)
            self._capture = False
            return Slot(self._prepare, self._outputs, shape, self.device, capture=False)


def _filled(images: np.ndarray | Tensor, missing: int) -> np.ndarray | Tensor:
    """With black images behind."""
    if isinstance(images, Tensor):
        return torch.cat((images, images.new_zeros(missing, *images.shape[1:])))
    return np.concatenate((images, np.zeros((missing, *images.shape[1:]), np.uint8)))
