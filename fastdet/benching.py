"""What `fastdet bench export` does: one detector in every way in which it runs here, timed side by side.

A run goes from uint8 pictures in the host's memory to detections there. Weights are random, and the last layers are
scaled so that scores spread as a trained detector's do: suppression has its usual work.
"""

import argparse
import contextlib
import copy
import io
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from fastdet import build
from fastdet.compat import load_experiment
from fastdet.deploy import onnx_file, tensorrt, torch_backend
from fastdet.deploy.engine_runtime import Engine
from fastdet.deploy.graph import GraphOptions
from fastdet.deploy.metadata import Metadata
from fastdet.deploy.sessions import OnnxSession, Session
from fastdet.deploy.slots import SlotSession
from fastdet.structures import Batch
from fastdet.utils.environment import collect_environment
from fastdet.utils.errors import FastdetError
from fastdet.utils.files import write_text

Run = Callable[[], Any]
"""One whole batch, until its detections are on the host."""

PEERS: dict[str, tuple[str, dict[str, Any]]] = {
    "retinanet": ("retinanet_resnet50_fpn", {"detections_per_img": 100}),
    "faster-rcnn": ("fasterrcnn_resnet50_fpn", {}),
}
"""torchvision's builder and options, by how the name of the config begins."""
LAST_LAYERS = (
    ("bbox_head.retina_cls", -3.0, 1.0), ("bbox_head.retina_reg", 0.0, 0.1),
    ("rpn_head.rpn_cls", 0.0, 1.0), ("rpn_head.rpn_reg", 0.0, 0.1),
    ("roi_head.bbox_head.fc_cls", 0.0, 2.0), ("roi_head.bbox_head.fc_reg", 0.0, 1.0),
    ("head.classification_head.cls_logits", -3.0, 1.0), ("head.regression_head.bbox_reg", 0.0, 0.1),
    ("rpn.head.cls_logits", 0.0, 1.0), ("rpn.head.bbox_pred", 0.0, 0.1),
    ("roi_heads.box_predictor.cls_score", 0.0, 2.0), ("roi_heads.box_predictor.bbox_pred", 0.0, 1.0),
)  # fmt: skip
"""Layers of fastdet's and torchvision's detectors, with the mean and deviation that their outputs get."""


class Row(NamedTuple):
    """One way to run one detector at one batch size; without times if it does not run here."""

    model: str
    name: str
    batch: int
    seconds: tuple[float, ...] = ()
    reason: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def run(options: argparse.Namespace) -> int:
    """Times all rows, prints the table, writes the JSON."""
    device = build.choose_device(options.device)
    warn_of_load()
    if device.type == "cpu":
        torch.set_num_threads(options.threads)
    shape = tuple(options.shape) if options.shape else ((800, 1344) if device.type == "cuda" else (320, 320))
    batches = options.batch or ([1, 8, 32] if device.type == "cuda" else [1])
    rows: list[Row] = []
    for config in options.configs:
        rows += list(_rows(config, shape, batches, device, options))
    result = _facts(device, shape, options) | {
        "rows": [
            {"model": r.model, "row": r.name, "batch": r.batch, "seconds": r.seconds, "reason": r.reason} for r in rows
        ]
    }
    if options.output:
        write_text(options.output, json.dumps(result, indent=1) + "\n")
    print(f"{result['hardware']}; {shape[0]} x {shape[1]} pixels; fp32; " + ", ".join(
        f"{name} {version}" for name, version in result["versions"].items()
    ))  # fmt: skip
    print(table(rows))
    return 0


def table(rows: Sequence[Row]) -> str:
    """A Markdown table; the ratio is torchvision's time over the row's, at the same batch."""
    lines = ["| model | batch | run by | ms | images/s | times torchvision |", "|---|---:|---|---:|---:|---:|"]
    peers = {(row.model, row.batch): row.median for row in rows if row.name == "torchvision" and row.seconds}
    for row in rows:
        if not row.seconds:
            lines.append(f"| {row.model} | {row.batch} | {row.name} | {row.reason} | | |")
            continue
        peer = peers.get((row.model, row.batch))
        ratio = "" if peer is None else f"{peer / row.median:.2f}"
        rate = row.batch / row.median
        lines.append(f"| {row.model} | {row.batch} | {row.name} | {row.median * 1e3:.2f} | {rate:.1f} | {ratio} |")
    return "\n".join(lines)


def _facts(device: torch.device, shape: tuple[int, ...], options: argparse.Namespace) -> dict[str, Any]:
    environment = collect_environment()
    return {
        "device": device.type,
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else environment.cpu,
        "threads": None if device.type == "cuda" else options.threads,
        "shape": list(shape),
        "precision": "fp32",
        "versions": {
            "fastdet": environment.fastdet,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
    }


def _rows(
    config: str, shape: tuple[int, ...], batches: Sequence[int], device: torch.device, options: argparse.Namespace
) -> Iterator[Row]:
    """Rounds go through all ways in turn, so that a busy moment of the machine meets all of them."""
    name = Path(config).stem
    detector = build.build_detector(load_experiment(config)).eval()
    height, width = shape
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.integers(0, 256, (max(batches), 3, height // 16 + 1, width // 16 + 1), np.uint8))
    pixels = coarse.repeat_interleave(16, 2).repeat_interleave(16, 3)[:, :, :height, :width].contiguous()
    spread(detector, lambda: detector.predict(Batch(pixels[:1], torch.tensor([[height, width]]), None, ())))  # type: ignore[operator]
    kept: dict[str, Session] = {}
    for batch in batches:
        runs: dict[str, Run] = {}
        for kind in options.rows:
            try:
                made = _way(kind, config, detector, pixels[:batch], (height, width), device, options, kept)
                if made is None:
                    continue
                made()
                runs[kind] = made
            except (FastdetError, RuntimeError, ImportError) as problem:
                yield Row(name, kind, batch, reason=f"not run: {str(problem).splitlines()[0]}")
        seconds: dict[str, list[float]] = {kind: [] for kind in runs}
        deadline = time.perf_counter() + options.seconds * max(1, len(runs))
        rounds = 0
        while runs and (rounds < 3 or (time.perf_counter() < deadline and rounds < 200)):
            for kind, once in runs.items():
                start = time.perf_counter()
                once()
                seconds[kind].append(time.perf_counter() - start)
            rounds += 1
        yield from (Row(name, kind, batch, tuple(values)) for kind, values in seconds.items())


def _way(
    kind: str,
    config: str,
    detector: nn.Module,
    pixels: Tensor,
    shape: tuple[int, int],
    device: torch.device,
    options: argparse.Namespace,
    kept: dict[str, Session],
) -> Run | None:
    """What runs a batch; None for a model that torchvision does not have.

    Args:
        kept: sessions that take any batch, for the next one.
    """
    sizes = torch.tensor([shape] * len(pixels))
    if kind == "torchvision":
        return _torchvision(config, pixels, device)
    if kind == "eager":
        on_device = copy.deepcopy(detector).to(device)

        def eager() -> Any:
            with torch.inference_mode():
                found = on_device.predict(Batch(pixels, sizes, None, ()).to(device))  # type: ignore[operator]
                return [None if part is None else part.cpu() for part in found]

        return eager
    if kind in tensorrt.BACKENDS and device.type != "cuda":
        raise FastdetError("engines run on a GPU")
    graph = GraphOptions(shape=shape)
    metadata = Metadata(
        classes=(), transforms=(), shape=shape, layout="hwc", whole_images=False, pad_divisor=32, mask_threshold=0.5,
        candidates=graph.candidates, rounds=graph.rounds,
    )  # fmt: skip
    session: Session
    if kind in kept:
        session = kept[kind]
    elif kind == "torch":
        session = torch_backend.torch_session(torch_backend.export_torch(detector, graph), metadata, device)
        kept[kind] = session
    else:
        model = onnx_file.export_model(detector, graph, metadata)
        if kind == "onnxruntime":
            threads = options.threads if device.type == "cpu" else None
            session = kept[kind] = OnnxSession(model.SerializeToString(), threads, device=device.type)
        else:
            session = _engine(kind, model, metadata, len(pixels), device)
    images = np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy())
    numbers = sizes.numpy().astype(np.int32)
    return lambda: session.run(images, numbers)


def _engine(kind: str, model: Any, metadata: Metadata, batch: int, device: torch.device) -> SlotSession:
    content = tensorrt.build_engine(model, metadata, tensorrt.EngineOptions(backend=kind, batch=(batch, batch, batch)))
    library = f"{kind} {tensorrt.import_library(kind).__version__}"
    with tempfile.NamedTemporaryFile(suffix=".engine") as file:
        file.write(content)
        file.flush()
        engine = Engine(file.name, metadata, {"library": library}, torch.cuda.get_device_name(device))
    outputs = list(engine.outputs)
    return SlotSession(engine.name, engine.prepare, outputs, device, batches=engine.batches)


def _torchvision(config: str, pixels: Tensor, device: torch.device) -> Run | None:
    """torchvision's detector of the same architecture, on pictures that it need not resize."""
    known = [entry for name, entry in PEERS.items() if Path(config).stem.startswith(name)]
    if not known:
        return None
    builder, settings = known[0]
    height, width = pixels.shape[2:]
    with contextlib.redirect_stdout(io.StringIO()):
        model = getattr(torchvision.models.detection, builder)(
            weights=None, weights_backbone=None, min_size=min(height, width), max_size=max(height, width), **settings
        ).eval()
    spread(model, lambda: model([pixels[0].flip(0).float() / 255]))
    model = model.to(device)

    def once() -> Any:
        with torch.inference_mode():
            images = [image.to(device).flip(0).float() / 255 for image in pixels]
            return [{name: value.cpu() for name, value in found.items()} for found in model(images)]

    return once


def spread(model: Any, predict: Run) -> None:
    """Scales the last layers so that their outputs have the mean and deviation of LAST_LAYERS."""
    layers = dict(model.named_modules())
    for name, mean, deviation in LAST_LAYERS:
        if name not in layers:
            continue
        layer = layers[name]
        seen: list[Tensor] = []
        handle = layer.register_forward_hook(lambda module, given, output, seen=seen: seen.append(output.flatten()))
        with torch.inference_mode():
            predict()
        handle.remove()
        values = torch.cat(seen)
        factor = deviation / float(values.std())
        with torch.no_grad():
            layer.weight.mul_(factor)
            layer.bias.mul_(factor).add_(mean - factor * float(values.mean()))


def warn_of_load() -> None:
    """Says so where other processes use the machine's cores."""
    try:
        busy = float(Path("/proc/loadavg").read_text().split()[0])
    except OSError:
        return
    if busy > 1.5:
        print(f"warning: the machine's load is {busy:.1f}: figures are those of a busy machine", file=sys.stderr)
