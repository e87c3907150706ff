"""Checkpoint files: MMEngine's layout in plain tensors and values, written beside and renamed."""

import os
import pickle
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastdet.config.schema import Runtime
from fastdet.engine import distributed
from fastdet.engine.state import TrainState
from fastdet.utils.errors import CheckpointError, FastdetError


def write_file(content: Mapping[str, Any], path: Path) -> None:
    """Writes with torch.save such that `path` is always either the old file or the complete new one.

    Raises:
        FastdetError: if the disk is full or the folder cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "wb") as file:
            torch.save(dict(content), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except (OSError, RuntimeError) as problem:
        beside.unlink(missing_ok=True)
        free = shutil.disk_usage(path.parent).free / 2**20 if path.parent.is_dir() else 0
        raise FastdetError(
            f"cannot write {path}: {problem}\n  {free:.0f} MiB are free there; make room or choose another --work-dir, "
            "then --resume"
        ) from problem


def read_file(path: Path) -> dict[str, Any]:
    """A checkpoint on the CPU, loaded with weights_only=True: no code of the file runs.

    Raises:
        CheckpointError: if the file is missing, cut off, or holds more than plain tensors and values.
    """
    return _load(path, mmap=False)


def _load(path: Path, *, mmap: bool) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as problem:
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {reason}") from problem
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a checkpoint's dict")
    return content


def find_last(work_dir: Path) -> Path | None:
    """The newest checkpoint of a run, as its `last_checkpoint` file names it; None if there is none.

    A path that has moved with its folder is found by its name.
    """
    note = work_dir / "last_checkpoint"
    if not note.is_file():
        return None
    named = Path(note.read_text().strip())
    for path in (named, work_dir / named.name):
        if path.is_file():
            return path
    raise CheckpointError(f"{note} names {named}, which does not exist\n  give the checkpoint: --resume PATH")


def checkpoint_to_resume(runtime: Runtime, work_dir: Path) -> Path | None:
    """The file that a run with these settings continues from; None if it starts anew."""
    if not runtime.resume:
        return None
    return find_last(work_dir) if runtime.load_from is None else Path(runtime.load_from)


def resumed_seed(runtime: Runtime, work_dir: Path) -> int | None:
    """The seed of the run that is to be continued, which its data loader needs as well; None if there is none.

    Only the index of the file is read, not its weights.
    """
    path = checkpoint_to_resume(runtime, work_dir)
    if path is None:
        return None
    content = _load(path, mmap=True)
    seed = content.get("rng", content.get("meta", {})).get("seed")
    return None if seed is None else int(seed)


def point_last(path: Path) -> None:
    """Makes `last_checkpoint` and the symbolic link `latest.pth` beside a checkpoint name it."""
    note = path.with_name("last_checkpoint")
    beside = path.with_name(f".last_checkpoint.{os.getpid()}.tmp")
    beside.write_text(str(path.absolute()))
    os.replace(beside, note)
    link = path.with_name(f".latest.{os.getpid()}.tmp")
    try:
        link.unlink(missing_ok=True)
        link.symlink_to(path.name)
        os.replace(link, path.with_name("latest.pth"))
    except OSError:
        link.unlink(missing_ok=True)  # file systems without symbolic links: last_checkpoint is what resuming reads


def to_cpu(value: Any) -> Any:
    """The same nest of dicts, lists and tuples with every tensor on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {key: to_cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(to_cpu(item) for item in value)
    return value


def pack(
    state: TrainState, *, meta: Mapping[str, Any], runtime_info: Mapping[str, Any], with_optimizer: bool
) -> dict[str, Any]:
    """What a checkpoint of the state holds, tensors on the CPU.

    MMEngine's keys: `meta`, `state_dict` (the EMA's weights if there is one), `message_hub`, `optimizer`,
    `ema_state_dict`. Ours, which MMEngine ignores: `step_in_epoch`, `sampler`, `rng`, and `gradients` if an
    accumulated update is incomplete. Random numbers of step n are a function of (seed, n, rank), so the seed and the
    position are all that is saved of them.
    """
    weights: dict[str, Tensor] = state.model.state_dict()
    content: dict[str, Any] = {
        "meta": {
            **meta,
            "epoch": state.epoch,
            "iter": state.step,
            "seed": state.seed,
            "time": time.strftime("%Y%m%d_%H%M%S"),
        },
        "state_dict": weights,
        "message_hub": {
            "log_scalars": {},
            "runtime_info": {
                "epoch": state.epoch,
                "iter": state.step,
                "max_epochs": state.max_epochs,
                "max_iters": state.max_steps,
                **runtime_info,
            },
            "resumed_keys": {},
        },
        "step_in_epoch": state.batch,
        "sampler": {"epoch": state.epoch, "batch": state.batch, "epoch_length": state.epoch_length},
        "rng": {"seed": state.seed, "step": state.step, "world_size": distributed.get_world_size()},
        "evaluated_step": state.evaluated_step,
    }
    if state.ema is not None:
        content["state_dict"], content["ema_state_dict"] = state.ema.state_dicts(weights)
    if with_optimizer:
        content["optimizer"] = {**state.optimizer.state_dict()}
        if state.scaler.enabled:
            content["optimizer"]["loss_scaler"] = state.scaler.state_dict()
        if not state.accumulation.is_clean(state.step):
            content["gradients"] = {n: p.grad for n, p in state.model.named_parameters() if p.grad is not None}
    packed: dict[str, Any] = to_cpu(content)
    return packed


def restore(state: TrainState, content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Puts the state where the checkpoint left it; the inverse of `pack`.

    Checkpoints of MMEngine's own runs do as well, as far as they go: they lie at the end of an epoch or iteration.

    Returns:
        The saved `runtime_info`.

    Raises:
        CheckpointError: weights or optimizer state that do not fit, naming the first ones.
    """
    for key in ("meta", "state_dict"):
        if key not in content:
            raise CheckpointError(f"{path} has no {key!r}: weights alone can be loaded with load_from, not resumed")
    weights = content["state_dict"]
    if state.ema is not None and "ema_state_dict" in content:
        weights = state.ema.load_state_dicts(weights, content["ema_state_dict"])
    elif state.ema is not None:
        state.ema.start_from(weights)
    elif "ema_state_dict" in content:
        own = content["ema_state_dict"]
        weights = {name.removeprefix("module."): value for name, value in own.items() if name != "steps"}
    _check_weights(state, weights, path)
    state.model.load_state_dict(weights)
    if "optimizer" not in content:
        raise CheckpointError(
            f"{path} holds no optimizer state (a best_*.pth or published file)\n"
            "  resume from an epoch_*.pth or iter_*.pth, or start anew from its weights with load_from"
        )
    _load_optimizer(state, dict(content["optimizer"]), path)

    meta = content["meta"]
    state.epoch, state.step = int(meta.get("epoch", 0)), int(meta.get("iter", 0))
    state.batch = int(content.get("step_in_epoch", 0))
    state.evaluated_step = int(content.get("evaluated_step", state.step))
    parameters = dict(state.model.named_parameters())
    for name, gradient in content.get("gradients", {}).items():
        parameters[name].grad = gradient.to(state.device)
    message_hub = content.get("message_hub", {})
    return dict(message_hub.get("runtime_info", {})) if isinstance(message_hub, Mapping) else {}


def _check_weights(state: TrainState, weights: Mapping[str, Tensor], path: Path) -> None:
    own = state.model.state_dict()
    missing = [name for name in own if name not in weights]
    unexpected = [name for name in weights if name not in own]
    shapes = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    lines = [
        f"{count}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
        for count, names in (
            (f"{len(missing)} missing", missing),
            (f"{len(unexpected)} unknown", unexpected),
            (f"{len(shapes)} of other shape", shapes),
        )
        if names
    ]
    if lines:
        raise CheckpointError(
            f"{path} was written by another model\n  "
            + "\n  ".join(lines)
            + "\n  to start from the weights that fit, give it as load_from instead of resuming"
        )


def _load_optimizer(state: TrainState, saved: dict[str, Any], path: Path) -> None:
    scaler = saved.pop("loss_scaler", {})
    saved.pop("base_param_settings", None)
    try:
        parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
        for index, values in saved["state"].items():
            for name, value in values.items():
                if isinstance(value, Tensor) and value.ndim and value.shape != parameters[index].shape:
                    wanted, given = tuple(parameters[index].shape), tuple(value.shape)
                    raise ValueError(f"{name} of parameter {index} has shape {given}, not {wanted}")
        state.optimizer.load_state_dict(saved)
    except (ValueError, KeyError, IndexError) as problem:
        raise CheckpointError(
            f"the optimizer state of {path} does not fit: {problem}\n"
            "  resume with the optimizer and paramwise_cfg of the run that wrote it, or start anew with load_from"
        ) from problem
    for group in state.optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    state.scaler.load_state_dict(scaler)
