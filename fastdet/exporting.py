"""What `fastdet export` does: a config and a checkpoint become a file, a proof and a record beside it."""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import onnx
import torch
from torch import nn

from fastdet import build, calibrating
from fastdet.compat import load_experiment
from fastdet.config.schema import Experiment
from fastdet.data.pipeline import prepare
from fastdet.deploy import onnx_file, runtime, tensorrt, torch_backend, triton
from fastdet.deploy.graph import GraphOptions, check_shape
from fastdet.deploy.metadata import Metadata
from fastdet.deploy.plugins.compiling import check_compiler
from fastdet.deploy.plugins.rewriting import read_with_plugins
from fastdet.deploy.quantise import quantise
from fastdet.deploy.tensorrt import EngineOptions
from fastdet.deploy.verify import LIMITS, limits_of
from fastdet.proving import crowd, fits, proof_batches, prove
from fastdet.structures import Batch, ImageRecord, Sample
from fastdet.utils import cli
from fastdet.utils.errors import CheckpointError, EnvironmentProblem, FastdetError
from fastdet.utils.files import write_bytes, write_text

LEAST_SIDE = 64
"""Pixels of the least picture of --dynamic-hw where none is given."""


def run(options: argparse.Namespace) -> int:
    """Exports each shape; returns 0, or 4 if a file does not find the same."""
    experiment = load_experiment(options.config, options.cfg_options)
    detector, classes = _detector(experiment, options)
    shapes = list(dict.fromkeys((height, width) for height, width in options.shape))
    for shape in shapes:
        check_shape(detector, shape)
    file = Path(options.output)
    if options.dynamic_hw:
        divisor: int = detector.preprocess.pad_divisor  # type: ignore[assignment, union-attr]
        least = shapes[0] if len(shapes) > 1 else _least_shape(shapes[0], divisor)
        return _export(experiment, detector, classes, Sizes(shapes[-1], least, shapes[-2:][0]), file, options)
    codes = []
    for height, width in shapes:
        if len(shapes) > 1:
            file = Path(options.output).with_name(f"{Path(options.output).stem}-{height}x{width}{file.suffix}")
        codes.append(_export(experiment, detector, classes, Sizes((height, width)), file, options))
    return max(codes)


class Sizes(NamedTuple):
    """(H, W) of the input of a file: the only one, or the greatest, the least and the usual one."""

    greatest: tuple[int, int]
    least: tuple[int, int] | None = None
    usual: tuple[int, int] | None = None


def _least_shape(shape: tuple[int, int], divisor: int) -> tuple[int, int]:
    """What --dynamic-hw begins with where it is not said."""
    height, width = (min(side, -(-LEAST_SIDE // divisor) * divisor) for side in shape)
    return height, width


def _export(
    experiment: Experiment,
    detector: nn.Module,
    classes: tuple[str, ...],
    sizes: Sizes,
    file: Path,
    options: argparse.Namespace,
) -> int:
    """Exports one file, proves, writes the record."""
    graph = GraphOptions(
        shape=sizes.greatest,
        least_shape=sizes.least,
        layout=options.layout,
        whole_images=options.whole_images,
        candidates=options.candidates,
        rounds=options.rounds,
        max_detections=options.max_detections,
    )
    engine = _engine_options(options)
    target = file if options.backend == "torch" else file.with_suffix(".onnx")
    samples, records = _samples(experiment, graph, options) if options.verify else ([], [])
    batches = proof_batches(samples, graph.shape, whole_images=graph.whole_images) if samples else []
    if samples and sizes.least is not None:
        batches += [crowd(samples, shape) for shape in dict.fromkeys((sizes.least, sizes.usual or sizes.least))]
    metadata = _metadata(experiment, detector, classes, graph, sizes, options)
    calibration = calibrating.of_options(experiment, graph, options)
    start = time.perf_counter()
    details: dict[str, Any] = {}
    model: onnx.ModelProto | None = None
    if options.backend == "torch":
        program = torch_backend.export_torch(detector, graph, options.precision)
        write_bytes(target, torch_backend.serialise(program, metadata))
    else:
        model = onnx_file.export_model(detector, graph, metadata)
        model = model if calibration is None else quantise(model, calibration)
        onnx_file.save_model(model, target)
        details["operators"] = onnx_file.operators(model)
        details["functions"] = [function.name for function in model.functions]
    record: dict[str, Any] = {
        "file": target.name,
        "bytes": target.stat().st_size,
        "seconds": round(time.perf_counter() - start, 1),
        **details,
        "metadata": json.loads(metadata.to_json()),
        "verification": "not run",
    }
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")
    code = cli.EXIT_OK
    if options.verify:
        loaded = runtime.load_file(target, device=torch.device("cpu"))
        proof = prove(detector, loaded, batches, limits_of(options.precision), records)
        record["verification"] = proof.to_dict()
        print(proof)
        if not proof.holds:
            for written in (target, target.with_name(f"{target.name}.data")):
                written.unlink(missing_ok=True)
            _say_unequal(proof.runtime, target)
            code = cli.EXIT_VERIFICATION
    _write_record(target, record)
    if code == cli.EXIT_OK and engine is not None:
        record["engine"] = _build_engine(file, target, metadata, engine)
        _write_record(target, record)
        code = _prove_engine(file, detector, batches, records, record)
        _write_record(target, record)
    if code == cli.EXIT_OK and options.triton and model is not None:
        _write_repository(Path(options.triton), file, model, metadata, options)
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
    if options.backend in ("onnx", "torch"):
        return None
    engine = EngineOptions(
        backend=options.backend,
        batch=tuple(options.batch),
        capability=options.capability,
        timing_cache=options.timing_cache,
        plugins=options.plugins,
    )
    tensorrt.import_library(engine.backend)
    if engine.plugins:
        check_compiler()
    return engine


def _build_engine(target: Path, source: Path, metadata: Metadata, options: EngineOptions) -> dict[str, Any]:
    """Builds and writes the engine; what the record says of it."""
    start = time.perf_counter()
    plugins = read_with_plugins(source) if options.plugins else None
    content = tensorrt.build_engine(str(source), metadata, options, plugins)
    write_bytes(target, content)
    print(f"{target}: {len(content) / 1e6:.1f} MB")
    return {
        "file": target.name,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "seconds": round(time.perf_counter() - start, 1),
        "library": f"{options.backend} {tensorrt.import_library(options.backend).__version__}",
        "batch": list(options.batch),
        "capability": options.capability or "any",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        **({} if plugins is None else {"plugins": plugins.to_dict()}),
        "verification": "unverified",
    }


def _prove_engine(
    file: Path, detector: nn.Module, batches: list[Batch], records: list[ImageRecord], record: dict[str, Any]
) -> int:
    """Compares an engine with torch where it can run, and notes what came out; the exit code."""
    try:
        if not batches:
            raise EnvironmentProblem("--verify 0")
        proof = prove(detector, runtime.load_file(file), batches, LIMITS["engine fp32"], records)
    except (EnvironmentProblem, CheckpointError) as problem:  # it may be for another GPU than this one
        print(f"warning: the engine was not run, so nothing is proven of it: unverified ({problem})", file=sys.stderr)
        return cli.EXIT_OK
    record["engine"]["verification"] = proof.to_dict()
    if "plugins" in record["engine"]:
        record["engine"]["plugins"]["status"] = "run"
    print(proof)
    if proof.holds:
        return cli.EXIT_OK
    file.unlink()
    _say_unequal(proof.runtime, file)
    return cli.EXIT_VERIFICATION


def _say_unequal(runtime_name: str, file: Path) -> None:
    print(
        f"error: {runtime_name} does not find the same; {file} is removed, and the .json beside it has the figures\n"
        "  scores that nearly tie, as of random weights, may differ by rounding: --verify 0 keeps an unproven file",
        file=sys.stderr,
    )


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
    return detector.eval(), classes or class_names(experiment)


def class_names(experiment: Experiment) -> tuple[str, ...]:
    """The test set's class names; none, with a warning, where it cannot be read: the file works without them."""
    split = experiment.data.test or experiment.data.val
    try:
        return build.build_dataset(split).classes if split is not None else ()
    except (FastdetError, OSError) as problem:
        reason = str(problem).splitlines()[0]
        print(
            "warning: the file has numbers for class names: neither checkpoint nor config have names, and the test set "
            f"cannot be read ({reason})\n"
            "  fix: --cfg-options test_dataloader.dataset.metainfo.classes=\"('cat','dog')\"",
            file=sys.stderr,
        )
        return ()


def _metadata(
    experiment: Experiment,
    detector: nn.Module,
    classes: tuple[str, ...],
    graph: GraphOptions,
    sizes: Sizes,
    options: argparse.Namespace,
) -> Metadata:
    return Metadata(
        classes=tuple(classes),
        transforms=tuple(spec.to_dict() for spec in build.test_transform_specs(experiment)),
        shape=sizes.greatest,
        least_shape=sizes.least,
        usual_shape=sizes.usual,
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


def _samples(
    experiment: Experiment, graph: GraphOptions, options: argparse.Namespace
) -> tuple[list[Sample], list[ImageRecord]]:
    """Pictures after the test transforms, and what is annotated of them; drawn ones where there are none."""
    split = experiment.data.test or experiment.data.val
    reason = "none of its pictures fits into this shape"
    try:
        if split is None:
            raise FastdetError("the config has no test set")
        dataset = build.build_dataset(split)
        chosen = [int(i) for i in np.linspace(0, len(dataset) - 1, min(options.verify, len(dataset)))]
        samples = [dataset.sample(i, np.random.default_rng(0)) for i in chosen]
        if len(options.shape) == 1 or options.dynamic_hw or any(fits(sample, graph.shape) for sample in samples):
            return samples, [dataset.record(i) for i in chosen]
    except (FastdetError, OSError) as problem:
        reason = str(problem).splitlines()[0]
    print(f"warning: drawn pictures are compared, not those of the test set: {reason}", file=sys.stderr)
    rng = np.random.default_rng(0)
    return [prepare(_drawn(rng, graph.shape), ()) for _ in range(options.verify)], []


def _drawn(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A picture of coloured boxes on coarse noise."""
    height, width = shape
    image = cv2.resize(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8), (width, height))
    for _ in range(20):
        x, y = rng.integers(0, width), rng.integers(0, height)
        w, h = rng.integers(4, max(5, width // 3)), rng.integers(4, max(5, height // 3))
        cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)), rng.integers(0, 255, 3).tolist(), -1)
    return image
