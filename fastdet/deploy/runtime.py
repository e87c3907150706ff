"""Exported detectors from their files."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from fastdet.deploy.buckets import BucketedDetector
from fastdet.deploy.detector import DeployedDetector, Redo
from fastdet.deploy.metadata import EXPORTED, is_exported
from fastdet.deploy.sessions import OnnxSession
from fastdet.deploy.torch_backend import read_program, torch_session
from fastdet.utils.errors import CheckpointError

PathLike = str | os.PathLike[str]


def load(
    path: PathLike | Sequence[PathLike],
    threads: int | None = None,
    *,
    device: str | torch.device | None = None,
    capture: bool = True,
) -> DeployedDetector | BucketedDetector:
    """An exported detector from its file; no config is needed.

    ONNX files run in onnxruntime, engines in the library that built them, and .pt2 files, which are programs (load none
    that you do not trust), in torch.

    Args:
        path: the file; or a folder, or several files, with sizes of one detector. Of a folder with engines or programs
            beside ONNX files, the engines count first, then the programs.
        threads: of a run of onnxruntime on the CPU; None: its choice.
        device: where it runs; None: a GPU where there is one that the runtime can use, else the CPU.
        capture: make a CUDA graph of each batch size.

    Raises:
        CheckpointError: the file is missing, was not written by fastdet, or is for another version or GPU.
        EnvironmentProblem: the runtime or its device is missing.
    """
    where = None if device is None else torch.device(device)
    if not isinstance(path, str | os.PathLike):
        return BucketedDetector([load_file(file, threads, device=where, capture=capture) for file in path])
    if not Path(path).is_dir():
        return load_file(path, threads, device=where, capture=capture)
    for suffix in (".engine", ".pt2", ".onnx"):
        files = sorted(str(file) for file in Path(path).iterdir() if file.suffix == suffix)
        if files:
            return BucketedDetector([load_file(file, threads, device=where, capture=capture) for file in files])
    raise CheckpointError(f"{path} holds no exported detector: their names end in {', '.join(EXPORTED)}")


def load_file(
    path: PathLike, threads: int | None = None, *, device: torch.device | None = None, capture: bool = True
) -> DeployedDetector:
    """The exported detector of one file; see `load`."""
    file = os.fspath(path)
    if not Path(file).is_file():
        raise CheckpointError(f"{file} is no file: make it with `python -m fastdet.export CFG CKPT --output {file}`")
    if not is_exported(file):
        raise CheckpointError(f"{file} is no exported detector: their names end in {', '.join(EXPORTED)}")
    where = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = Path(file).name
    if file.endswith(".pt2"):
        program, metadata = read_program(file)
        return DeployedDetector(torch_session(program, metadata, where, capture=capture), metadata, name)
    if file.endswith(".engine"):
        from fastdet.deploy.engine_runtime import engine_session, read_record

        metadata, facts = read_record(file)
        beside = Path(file).with_suffix(".onnx")
        redo = _exact_graph(str(beside), threads) if beside.is_file() else None
        return DeployedDetector(engine_session(file, metadata, facts, where, capture=capture), metadata, name, redo)
    import onnx  # which programs run without

    from fastdet.deploy.onnx_file import read_metadata

    try:
        metadata = read_metadata(onnx.load(file, load_external_data=False), file)
    except CheckpointError:
        raise
    except Exception as problem:  # protobuf's DecodeError lies in a module that moves between versions
        raise CheckpointError(f"{file} is damaged, or no ONNX file: {problem}") from problem
    session = OnnxSession(file, threads, device=None if device is None else device.type)
    return DeployedDetector(session, metadata, name, _exact_graph(file, threads))


def _exact_graph(file: str, threads: int | None) -> Redo | None:
    """None without the packages that it needs."""
    try:
        from fastdet.deploy.redo import ExactGraph
    except ImportError:
        return None
    return ExactGraph(file, threads)
