"""What `fastdet export` does: a config and a checkpoint become a file, a proof and a record beside it."""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch
from torch import nn

from fastdet import build, calibrating
from fastdet.compat import load_experiment
from fastdet.config.schema import Experiment
from fastdet.data.collate import collate
from fastdet.data.pipeline import prepare
from fastdet.deploy import onnx_file, runtime, tensorrt, triton
from fastdet.deploy.graph import GraphOptions, check_shape
from fastdet.deploy.metadata import Metadata
from fastdet.deploy.quantise import quantise
from fastdet.deploy.tensorrt import EngineOptions
from fastdet.deploy.verify import Comparison, Limits, compare, limits_of
from fastdet.structures import Batch, Detections, Sample
from fastdet.utils import cli
from fastdet.utils.errors import FastdetError
from fastdet.utils.files import write_bytes, write_text

BATCH = 3
"""Pictures at once in the proof: more than one, and not the number that the graph was traced with."""
GREY = 114


def run(options: argparse.Namespace) -> int:
    """Exports, proves, writes the record; returns 0, or 4 if the file does not find the same."""
    experiment = load_experiment(options.config, options.cfg_options)
    detector, classes = _detector(experiment, options)
    graph = GraphOptions(
        shape=(options.shape[0], options.shape[1]),
        layout=options.layout,
        whole_images=options.whole_images,
        candidates=options.candidates,
        rounds=options.rounds,
        max_detections=options.max_detections,
    )
    check_shape(detector, graph.shape)
    engine = _engine_options(options)
    batches = list(_batches(experiment, graph, options.verify)) if options.verify else []
    metadata = _metadata(experiment, detector, classes, graph, options)
    calibration = calibrating.of_options(experiment, graph, options)
    start = time.perf_counter()
    model = onnx_file.export_model(detector, graph, metadata)
    model = model if calibration is None else quantise(model, calibration)
    target = Path(options.output).with_suffix(".onnx")
    onnx_file.save_model(model, target)
    record: dict[str, Any] = {
        "file": target.name,
        "bytes": target.stat().st_size,
        "seconds": round(time.perf_counter() - start, 1),
        "operators": onnx_file.operators(model),
        "functions": [function.name for function in model.functions],
        "metadata": json.loads(metadata.to_json()),
        "verification": "not run",
    }
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB, {len(model.graph.node)} nodes")
    code = cli.EXIT_OK
    if options.verify:
        outcome = _verify(detector, runtime.load(target), batches, limits_of(options.precision))
        limits = limits_of(options.precision)
        record["verification"] = {"runtime": "onnxruntime", **outcome.to_dict(), "holds": outcome.holds(limits)}
        print(_line(outcome))
        if not outcome.holds(limits):
            for file in (target, target.with_name(f"{target.name}.data")):
                file.unlink(missing_ok=True)
            print(f"error: onnxruntime does not find the same; {target} is removed", file=sys.stderr)
            code = cli.EXIT_VERIFICATION
    _write_record(target, record)
    if code == cli.EXIT_OK and engine is not None:
        record["engine"] = _build_engine(Path(options.output), target, metadata, engine)
        _write_record(target, record)
    if code == cli.EXIT_OK and options.triton:
        _write_repository(Path(options.triton), Path(options.output), model, metadata, options)
    return code


def _write_record(target: Path, record: dict[str, Any]) -> None:
    write_text(target.with_suffix(".json"), json.dumps(record, indent=2) + "\n")


def _write_repository(
    folder: Path, file: Path, model: onnx.ModelProto, metadata: Metadata, options: argparse.Namespace
) -> None:
    """A Triton model repository of the exported file."""
    triton.write_repository(
        folder, file, triton.outputs_of(model), metadata, name=file.stem, max_batch=options.batch[2]
    )
    print(f"Triton model repository: {folder}")


def _engine_options(options: argparse.Namespace) -> EngineOptions | None:
    """What to build beside the ONNX file; the library is looked for before the work begins."""
    if options.backend == "onnx":
        return None
    engine = EngineOptions(
        backend=options.backend,
        batch=tuple(options.batch),
        capability=options.capability,
        timing_cache=options.timing_cache,
    )
    tensorrt.import_library(engine.backend)
    return engine


def _build_engine(target: Path, source: Path, metadata: Metadata, options: EngineOptions) -> dict[str, Any]:
    """Builds and writes the engine; what the record says of it."""
    start = time.perf_counter()
    content = tensorrt.build_engine(str(source), metadata, options)
    write_bytes(target, content)
    print(f"{target}: {len(content) / 1e6:.1f} MB")
    print("warning: the engine has not been run, so nothing is proven of it: unverified", file=sys.stderr)
    return {
        "file": target.name,
        "bytes": len(content),
        "seconds": round(time.perf_counter() - start, 1),
        "library": f"{options.backend} {tensorrt.import_library(options.backend).__version__}",
        "batch": list(options.batch),
        "capability": options.capability or "any",
        "verification": "unverified",
    }


def _detector(experiment: Experiment, options: argparse.Namespace) -> tuple[nn.Module, tuple[str, ...]]:
    """The detector in evaluation mode on the CPU, and its class names."""
    if options.checkpoint is None:
        torch.manual_seed(0)
    detector = build.build_detector(experiment)
    classes = experiment.classes
    if options.checkpoint is None:
        print("warning: no checkpoint: the weights are random, so the file finds nothing sensible", file=sys.stderr)
    else:
        classes = build.load_weights(detector, options.checkpoint, trust=options.trust_checkpoint) or classes
    if not classes:
        split = experiment.data.test or experiment.data.val
        classes = build.build_dataset(split).classes if split is not None else ()
    return detector.eval(), classes


def _metadata(
    experiment: Experiment,
    detector: nn.Module,
    classes: tuple[str, ...],
    graph: GraphOptions,
    options: argparse.Namespace,
) -> Metadata:
    return Metadata(
        classes=tuple(classes),
        transforms=tuple(spec.to_dict() for spec in build.test_transform_specs(experiment)),
        shape=graph.shape,
        layout=graph.layout,
        whole_images=graph.whole_images,
        pad_divisor=detector.preprocess.pad_divisor,  # type: ignore[union-attr, arg-type]
        mask_threshold=float(getattr(detector, "mask_threshold", 0.5)),
        candidates=graph.candidates,
        rounds=graph.rounds,
        precision=options.precision,
        settings=dict(_postprocess_settings(experiment.to_dict()["model"])),
        source={"config": Path(options.config).name, "checkpoint": Path(options.checkpoint or "random weights").name},
    )


def _postprocess_settings(model: dict[str, Any], path: str = "model") -> Iterator[tuple[str, dict[str, Any]]]:
    """The post-processing parts of a model's Specs as dicts, by their place."""
    for name, value in model.items():
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, dict):
                if name == "postprocess":
                    yield f"{path}.{name}", child
                yield from _postprocess_settings(child, f"{path}.{name}")


def _batches(experiment: Experiment, graph: GraphOptions, number: int) -> Iterator[Batch]:
    """Pictures for the proof: some of the test set, or else drawn ones, then an empty one and a crowd."""
    samples = _samples(experiment, graph, number)
    fitting = [s for s in samples if all(a <= b for a, b in zip(s.image.shape[:2], graph.shape, strict=True))]
    if not fitting:
        height, width = samples[0].image.shape[:2]
        raise FastdetError(
            f"--shape {graph.shape[0]} {graph.shape[1]}: the test pictures are larger after their transforms, such as "
            f"{height} x {width}; give a shape that holds them, or smaller scales in the test pipeline"
        )
    pixels = [np.ascontiguousarray(s.image) for s in fitting]
    height, width = graph.shape
    empty = np.full((height, width, 3), GREY, np.uint8)
    tiles = [cv2.resize(p, (width // 4, height // 4)) for p in pixels[:16]]
    rows = [np.hstack([tiles[(4 * row + column) % len(tiles)] for column in range(4)]) for row in range(4)]
    crowd = np.full((height, width, 3), GREY, np.uint8)
    mosaic = np.vstack(rows)
    crowd[: mosaic.shape[0], : mosaic.shape[1]] = mosaic
    if graph.whole_images:
        pixels = [p for p in pixels if p.shape[:2] == graph.shape]
    prepared = [prepare(p, ()) for p in (empty, crowd, *pixels)]
    for start in range(0, len(prepared), BATCH):
        yield collate(prepared[start : start + BATCH], fixed_size=graph.shape)


def _samples(experiment: Experiment, graph: GraphOptions, number: int) -> list[Sample]:
    """Pictures after the test transforms."""
    split = experiment.data.test or experiment.data.val
    try:
        if split is None:
            raise FastdetError("the config has no test set")
        dataset = build.build_dataset(split)
        chosen = np.linspace(0, len(dataset) - 1, min(number, len(dataset))).astype(int)
        return [dataset.sample(int(i), np.random.default_rng(0)) for i in chosen]
    except (FastdetError, OSError) as problem:
        reason = str(problem).splitlines()[0]
        print(f"warning: drawn pictures are compared, since the test set cannot be read: {reason}", file=sys.stderr)
    rng = np.random.default_rng(0)
    return [prepare(_drawn(rng, graph.shape), ()) for _ in range(number)]


def _drawn(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A picture of coloured boxes on coarse noise."""
    height, width = shape
    image = cv2.resize(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8), (width, height))
    for _ in range(20):
        x, y = rng.integers(0, width), rng.integers(0, height)
        w, h = rng.integers(4, max(5, width // 3)), rng.integers(4, max(5, height // 3))
        cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)), rng.integers(0, 255, 3).tolist(), -1)
    return image


def _verify(detector: nn.Module, deployed: Any, batches: list[Batch], limits: Limits) -> Comparison:
    """Runs both over the batches."""
    expected, found, inexact = [], [], 0
    for batch in batches:
        outputs = deployed.run(batch.pixels, batch.sizes)
        inexact += int((outputs["exact"] == 0).sum())
        detections: Detections = deployed.detections(outputs)
        found.append(detections)
        with torch.inference_mode():
            own = detector.predict(batch)  # type: ignore[operator]
        expected.append(_limited(own, detections.boxes.shape[1]))
    return compare(expected, found, limits, inexact)


def _limited(detections: Detections, number: int) -> Detections:
    """The best `number` slots."""
    boxes, scores, labels = (part[:, :number] for part in detections[:3])
    masks = None if detections.masks is None else detections.masks[:, :number]
    return Detections(boxes, scores, labels, detections.count.clamp(max=number), masks)


def _line(outcome: Comparison) -> str:
    return (
        f"onnxruntime and torch: {outcome.matched} of {outcome.expected} detections of {outcome.images} pictures equal "
        f"(boxes within {outcome.box_error:.2g} px, scores within {outcome.score_error:.2g}); "
        f"{outcome.inexact} pictures without certificate"
    )
