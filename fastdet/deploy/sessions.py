"""What runs an exported graph: arrays in, arrays out."""

from typing import Any, Protocol

import numpy as np

from fastdet.utils.errors import CheckpointError, EnvironmentProblem


class Session(Protocol):
    """Runs a graph; safe to call from several threads."""

    name: str
    """Of the runtime, with its version."""

    def run(self, images: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name, of uint8 images in the graph's layout and their sizes [B, 2] int32."""
        ...


class OnnxSession:
    """An ONNX file in onnxruntime.

    Args:
        content: the model, serialised, or the path of its file.
        threads: of a run; None: onnxruntime's choice.
        folder: where weights lie that a serialised model keeps outside.
        device: "cpu" or "cuda"; None: a GPU, if this onnxruntime can use one.

    Raises:
        EnvironmentProblem: onnxruntime is missing, or cannot use the device.
        CheckpointError: onnxruntime does not take the file.
    """

    def __init__(
        self,
        content: bytes | str,
        threads: int | None = None,
        folder: str | None = None,
        device: str | None = None,
    ) -> None:
        try:
            import onnxruntime
        except ImportError as problem:
            raise EnvironmentProblem("ONNX files run in onnxruntime: pip install onnxruntime") from problem
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        if folder is not None:
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
        gpu, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
        here = onnxruntime.get_available_providers()
        if device == "cuda" and gpu not in here:
            raise EnvironmentProblem("this onnxruntime uses no GPU: pip install onnxruntime-gpu, or --device cpu")
        providers = [gpu, cpu] if gpu in here and device != "cpu" else [cpu]
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=providers)
        except Exception as problem:  # onnxruntime's errors have no common class of their own
            name = content if isinstance(content, str) else "the model"
            raise CheckpointError(f"onnxruntime {onnxruntime.__version__} cannot load {name}: {problem}") from problem
        self.name = f"onnxruntime {onnxruntime.__version__}"
        self._inputs = [value.name for value in self._session.get_inputs()]
        self._outputs = [value.name for value in self._session.get_outputs()]

    def run(self, images: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name; see Session."""
        return self.run_with({"images": images, "sizes": sizes})

    def run_with(self, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name, of inputs by name; those that the graph does not have are left out."""
        values: list[Any] = self._session.run(None, {name: given[name] for name in self._inputs})
        return dict(zip(self._outputs, values, strict=True))
