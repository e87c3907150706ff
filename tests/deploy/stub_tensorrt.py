"""The part of TensorRT's Python interface that fastdet uses, with its signatures; it adds up pictures on the CPU.

It refuses calls in another order than the library's documentation allows.
"""

import ctypes
import enum
from typing import Any

import numpy as np

__version__ = "10.13.3"
SLOTS = 3
"""Detections of a picture."""


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class DataType(enum.Enum):
    FLOAT = 0
    INT32 = 3
    UINT8 = 5


class ILogger:
    ERROR = 1

    def log(self, severity: int, message: str) -> None:
        raise NotImplementedError


TENSORS = {
    "images": (TensorIOMode.INPUT, DataType.UINT8, (-1, 4, 4, 3)),
    "sizes": (TensorIOMode.INPUT, DataType.INT32, (-1, 2)),
    "boxes": (TensorIOMode.OUTPUT, DataType.FLOAT, (-1, SLOTS, 4)),
    "scores": (TensorIOMode.OUTPUT, DataType.FLOAT, (-1, SLOTS)),
    "labels": (TensorIOMode.OUTPUT, DataType.INT32, (-1, SLOTS)),
    "num": (TensorIOMode.OUTPUT, DataType.INT32, (-1,)),
    "exact": (TensorIOMode.OUTPUT, DataType.INT32, (-1,)),
}
PROFILE = (2, 3, 4)


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        assert isinstance(logger, ILogger)
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> "ICudaEngine | None":
        if serialized_engine != b"an engine":
            self._logger.log(ILogger.ERROR, "The engine plan file is not compatible with this version of TensorRT")
            return None
        return ICudaEngine()


class ICudaEngine:
    def __init__(self) -> None:
        self.contexts: list[IExecutionContext] = []

    @property
    def num_io_tensors(self) -> int:
        return len(TENSORS)

    def get_tensor_name(self, index: int) -> str:
        return list(TENSORS)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TENSORS[name][0]

    def get_tensor_dtype(self, name: str) -> DataType:
        return TENSORS[name][1]

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        assert TENSORS[name][0] is TensorIOMode.INPUT
        assert profile_index == 0
        return [(batch, *TENSORS[name][2][1:]) for batch in PROFILE]

    def create_execution_context(self) -> "IExecutionContext":
        self.contexts.append(IExecutionContext())
        return self.contexts[-1]


class IExecutionContext:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.streams: list[int] = []

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert TENSORS[name][0] is TensorIOMode.INPUT
        self.shapes[name] = shape
        return PROFILE[0] <= shape[0] <= PROFILE[2] and shape[1:] == TENSORS[name][2][1:]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert set(self.shapes) == {"images", "sizes"}, "shapes of outputs are known after those of all inputs"
        return (self.shapes["images"][0], *TENSORS[name][2][1:])

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert isinstance(memory, int)
        self.addresses[name] = memory
        return name in TENSORS and memory != 0

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert set(self.addresses) == set(TENSORS), "every tensor needs an address"
        self.streams.append(stream_handle)
        batch = self.shapes["images"][0]
        images, sizes = self._array("images", np.uint8), self._array("sizes", np.int32)
        self._array("boxes", np.float32)[...] = np.repeat(sizes, 2, axis=1)[:, None]
        self._array("scores", np.float32)[...] = images.reshape(batch, -1).mean(1)[:, None] / 255
        self._array("labels", np.int32)[...] = np.arange(SLOTS)
        self._array("num", np.int32)[...] = SLOTS - 1
        self._array("exact", np.int32)[...] = images[:, 0, 0, 0] != 9
        return True

    def _array(self, name: str, dtype: Any) -> np.ndarray:
        shape = (self.shapes["images"][0], *TENSORS[name][2][1:])
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = (ctypes.c_char * size).from_address(self.addresses[name])
        return np.frombuffer(memory, dtype).reshape(shape)
