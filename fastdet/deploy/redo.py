"""An exported graph whose suppressions are done by fastdet's own kernel, for pictures without certificate.

The suppressions are taken out of the graph: what they look at becomes outputs, what they give becomes inputs. The graph
runs once for each of them, and each run gives the next one what it looks at; a last run gives the detections. That is
slow, and exact whatever the number of candidates and the length of chains of suppressions.
"""

import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from onnx import ModelProto, TensorProto, helper
from torch import Tensor

from fastdet import ops  # noqa: F401  # registers the kernels
from fastdet.deploy.functions import CERTIFIED, DOMAIN
from fastdet.deploy.sessions import OnnxSession

SLOTS, ONE = "slots", "one"
RESULTS: dict[str, tuple[tuple[str, int], ...]] = {
    "nms_padded": ((SLOTS, TensorProto.INT64), (ONE, TensorProto.INT64)),
    "nms_levels": ((SLOTS, TensorProto.INT64), (ONE, TensorProto.INT64)),
    "soft_nms_padded": ((SLOTS, TensorProto.INT64), (SLOTS, TensorProto.FLOAT), (ONE, TensorProto.INT64)),
}
"""What each kind of node gives before its certificate: a row of slots or one number an image."""
CERTIFICATE = (ONE, TensorProto.INT64)


class Suppression(NamedTuple):
    """One that was taken out."""

    kind: str  # a name in RESULTS
    settings: dict[str, Any]
    looks_at: tuple[str | None, ...]  # outputs of the cut graph; None: an argument that is not there
    gives: tuple[str, ...]  # inputs of the cut graph, the certificate [B] last

    def __call__(self, outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the node would give, if it always settled."""
        given = [None if name is None else torch.from_numpy(outputs[name]) for name in self.looks_at]
        results = _kernel(self.kind, self.settings, given)
        certificate = torch.ones(len(results[0]), dtype=torch.int64)
        return {name: t.numpy() for name, t in zip(self.gives, (*results, certificate), strict=True)}

    def nothing(self, batch: int) -> dict[str, np.ndarray]:
        """Inputs for a run before it is known what to give."""
        slots = int(self.settings["max_output"])
        return {
            name: np.zeros((batch, slots) if kind == SLOTS else (batch,), helper.tensor_dtype_to_np_dtype(dtype))
            for name, (kind, dtype) in zip(self.gives, (*RESULTS[self.kind], CERTIFICATE), strict=True)
        }


def _kernel(kind: str, settings: dict[str, Any], given: list[Tensor | None]) -> tuple[Tensor, ...]:
    own = torch.ops.fastdet
    if kind == "nms_levels":
        found = own.nms_levels(*given[:3], settings["lengths"], settings["iou_threshold"], settings["max_output"])
    elif kind == "soft_nms_padded":
        names = ("method", "iou_threshold", "sigma", "min_score", "max_output")
        found = own.soft_nms_padded(*given, *(settings[name] for name in names))
    else:
        found = own.nms_padded(*given, settings["iou_threshold"], settings["max_output"])
    return tuple(found)


def cut(model: ModelProto) -> list[Suppression]:
    """Takes the suppressions out of a model, in the order in which they run."""
    graph = model.graph
    suppressions: list[Suppression] = []
    for node in [n for n in graph.node if n.domain == DOMAIN and n.op_type.startswith(CERTIFIED)]:
        kind = next(name for name in CERTIFIED if node.op_type.startswith(name))
        settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        stem = f"suppression_{len(suppressions)}"
        names = tuple(f"{stem}_{i}" if name else None for i, name in enumerate(node.input))
        place = list(graph.node).index(node)
        graph.node.remove(node)
        for source, name in zip(node.input, names, strict=True):
            if name is not None:
                graph.node.insert(place, helper.make_node("Identity", [source], [name], name=name))
                graph.output.append(helper.make_empty_tensor_value_info(name))
        for name, (shape, dtype) in zip(node.output, (*RESULTS[kind], CERTIFICATE), strict=True):
            sizes: list[str | int | None] = ["batch"]
            if shape == SLOTS:
                sizes.append(int(settings["max_output"]))
            graph.input.append(helper.make_tensor_value_info(name, dtype, sizes))
        arguments = 3 if kind == "nms_levels" else 4  # those at the end that are not there are left out of a node
        padded = (*names, *[None] * (arguments - len(names)))
        suppressions.append(Suppression(kind, settings, padded, tuple(node.output)))
    return suppressions


class ExactGraph:
    """The detections of an ONNX file, exact for every picture; loaded at the first use. Safe for several threads.

    Args:
        source: the file, or the model.
        threads: of a run; None: onnxruntime's choice.
    """

    def __init__(self, source: str | ModelProto, threads: int | None = None) -> None:
        self._source = source
        self._threads = threads
        self._lock = threading.Lock()
        self._session: OnnxSession | None = None
        self._suppressions: list[Suppression] = []

    def run(self, images: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs of the graph; `exact` is 1."""
        session = self._loaded()
        given = {"images": images, "sizes": sizes}
        for suppression in self._suppressions:
            given.update(suppression.nothing(len(images)))
        for suppression in self._suppressions:
            given.update(suppression(session.run_with(given)))
        outputs = session.run_with(given)
        return {name: value for name, value in outputs.items() if not name.startswith("suppression_")}

    def _loaded(self) -> OnnxSession:
        with self._lock:
            if self._session is None:
                folder = None
                if isinstance(self._source, str):
                    model = onnx.load(self._source, load_external_data=False)
                    folder = str(Path(self._source).resolve().parent)
                else:
                    model = ModelProto()
                    model.CopyFrom(self._source)
                self._suppressions = cut(model)
                self._session = OnnxSession(model.SerializeToString(), self._threads, folder, "cpu")
            return self._session
