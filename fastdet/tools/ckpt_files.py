"""What `fastdet ckpt` does: telling what a checkpoint holds, and writing it in other forms.

Everything that is written holds CPU tensors in plain layout and no optimizer.
"""

import argparse
import hashlib
import importlib
import io
import json
import math
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastdet.build import build_detector
from fastdet.compat import to_experiment
from fastdet.compat.checkpoints import (
    Checkpoint,
    LoadReport,
    StandIn,
    load_checkpoint,
    matched,
    stored_config,
    upgrade,
)
from fastdet.compat.checkpoints.load import CONFIG_KEYS
from fastdet.compat.checkpoints.origins import origin_of
from fastdet.config.configdict import ConfigDict
from fastdet.config.dump import dump_python
from fastdet.config.file import load_config
from fastdet.utils.errors import CheckpointError, EnvironmentProblem
from fastdet.utils.files import write_bytes

_HASH = re.compile(r"-[0-9a-f]{8}$")
_SHOWN_CLASSES = 8
_COUNTED = ("num_batches_tracked", "running_mean")  # A norm that has the latter has the former.
_META_SHOWN = ("epoch", "iter", "time", "seed", "experiment_name", "exp_name", "mmdet_version", "mmengine_version",
               "mmcv_version", "fastdet_version", "upgraded_from")  # fmt: skip


def run_verb(arguments: argparse.Namespace) -> None:
    """Does what the command line asks for, and says what was written."""
    checkpoint = load_checkpoint(arguments.file, trust=arguments.trust_checkpoint)
    if arguments.verb == "info":
        print(config_text(checkpoint) if arguments.config else describe(checkpoint, keys=arguments.keys), end="")
        return
    if arguments.verb == "convert":
        weights = {**checkpoint.state_dict, **(checkpoint.raw_weights if arguments.raw else {})}
        if arguments.raw and not checkpoint.raw_weights:
            raise CheckpointError(f"{checkpoint.path} holds no moving average, so its weights are the trained ones")
        if arguments.cfg:
            config = load_config(arguments.cfg)
            weights, report = as_detector(replace(checkpoint, state_dict=OrderedDict(weights)), config, strict=False)
            print(report)
        written = write_weights(weights, checkpoint.meta, arguments.output)
    elif arguments.verb == "publish":
        written = publish(checkpoint, arguments.output or checkpoint.path)
    elif arguments.verb == "upgrade":
        upgraded = upgrade(checkpoint)
        written = write_weights(upgraded.state_dict, upgraded.meta, arguments.output)
    else:
        written = write_for_mmdet(checkpoint, arguments.output, arguments.cfg)
    print(f"{written} ({written.stat().st_size / 2**20:.1f} MiB)")


def describe(checkpoint: Checkpoint, *, keys: bool = False) -> str:
    """A few lines: origin, classes, weights, other sections; with `keys` every weight."""
    weights = checkpoint.state_dict
    count = sum(value.numel() for value in weights.values())
    size = sum(value.numel() * value.element_size() for value in weights.values())
    kinds = sorted({str(value.dtype).removeprefix("torch.") for value in weights.values()})
    rows = [
        ("file", str(checkpoint.path)),
        ("sha256", hashlib.sha256(checkpoint.path.read_bytes()).hexdigest()),
        ("written by", origin(checkpoint)),
        *((name, str(checkpoint.meta[name])) for name in _META_SHOWN if checkpoint.meta.get(name) is not None),
        ("weights", f"{len(weights)} tensors, {count:,} numbers, {size / 2**20:.1f} MiB, {', '.join(kinds)}"),
        ("parts", ", ".join(_parts(weights))),
        ("classes", _classes(checkpoint)),
        ("moving average", "in the weights; the trained ones beside them" if checkpoint.raw_weights else "none"),
        ("optimizer", "stored" if checkpoint.optimizer else "none"),
        ("config", "stored: --config prints it" if checkpoint.config_text else "none"),
        ("other sections", ", ".join(map(str, checkpoint.extras)) or "none"),
    ]
    text = "".join(f"{name:16}{value}\n" for name, value in rows)
    if keys:
        text += "".join(f"{n}  {list(v.shape)}  {str(v.dtype).removeprefix('torch.')}\n" for n, v in weights.items())
    return text


def origin(checkpoint: Checkpoint) -> str:
    """The program whose layout the file has."""
    meta = checkpoint.meta
    if "fastdet_version" in meta:
        return "fastdet"
    if "mmengine_version" in meta or "dataset_meta" in meta:
        return "MMDetection 3.x"
    if "mmdet_version" in meta or "CLASSES" in meta:
        return "MMDetection 1.x" if str(meta.get("mmdet_version", "2"))[0] in "01" else "MMDetection 2.x"
    found = origin_of(checkpoint.state_dict)
    if found is not None:
        return found.title
    return "unknown: weights without a description" if not meta else "unknown"


def config_text(checkpoint: Checkpoint) -> str:
    """The config that the file holds.

    Raises:
        CheckpointError: it holds none.
    """
    text = checkpoint.config_text
    if not text:
        raise CheckpointError(f"{checkpoint.path} does not hold its config")
    return text if text.endswith("\n") else f"{text}\n"


def write_weights(weights: Mapping[str, Tensor], meta: Mapping[str, Any], path: Path) -> Path:
    """Writes weights and what describes them, as .pth (MMEngine's layout) or .safetensors.

    Raises:
        CheckpointError: another suffix.
    """
    if path.suffix not in (".pth", ".pt", ".safetensors"):
        raise CheckpointError(f"{path} must end in .pth or .safetensors")
    write_bytes(path, _packed(weights, meta, path.suffix))
    return path


def publish(checkpoint: Checkpoint, output: Path) -> Path:
    """Writes the weights under a name that ends in the start of the file's SHA-256, as releases do.

    The average counts if there is one; the optimizer, logs and trained weights are left out. A hash that the name has
    already is replaced.
    """
    suffix = output.suffix if output.suffix in (".pth", ".safetensors") else ".pth"
    stem = output.stem if output.suffix in (".pth", ".pt", ".safetensors") else output.name
    content = _packed(checkpoint.state_dict, checkpoint.meta, suffix)
    name = f"{_HASH.sub('', stem)}-{hashlib.sha256(content).hexdigest()[:8]}{suffix}"
    write_bytes(output.with_name(name), content)
    return output.with_name(name)


def write_for_mmdet(checkpoint: Checkpoint, output: Path, config: str | None = None) -> Path:
    """Writes a .pth that MMDetection 3.x loads, with the class names and the config where it looks for them.

    With a config the weights get the names of its detector, and all of them must be there.

    Args:
        config: the detector's config file, which is stored too; None takes the one that the file holds.

    Raises:
        CheckpointError: an output that is no .pth, or weights that do not fit the detector.
    """
    if output.suffix != ".pth":
        raise CheckpointError(f"{output} must end in .pth: MMDetection reads no other")
    meta = {key: value for key, value in checkpoint.meta.items() if key not in (*CONFIG_KEYS, "CLASSES", "PALETTE")}
    weights: Mapping[str, Tensor] = checkpoint.state_dict
    known = load_config(config) if config else stored_config(checkpoint) if checkpoint.config_text else ConfigDict()
    if "model" in known:
        weights, _ = as_detector(checkpoint, known, strict=True)
    text = dump_python(known) if config else checkpoint.config_text
    dataset = dict(meta["dataset_meta"]) if isinstance(meta.get("dataset_meta"), Mapping) else {}
    if "PALETTE" in checkpoint.meta:
        dataset.setdefault("palette", checkpoint.meta["PALETTE"])
    meta["dataset_meta"] = {**dataset, "classes": checkpoint.classes}
    if text:
        meta["cfg"] = text
    return write_weights(weights, meta, output)


def as_detector(
    checkpoint: Checkpoint, config: ConfigDict, *, strict: bool
) -> "tuple[OrderedDict[str, Tensor], LoadReport]":
    """The weights under the names of a config's detector; counters of batch norms that the file lacks are 0.

    Args:
        strict: every weight of the detector must be there, and none more.

    Raises:
        CheckpointError: weights that do not fit.
    """
    with torch.device("meta"):
        own = build_detector(to_experiment(config)).state_dict()
    weights, report = matched(own, checkpoint, strict=strict)
    for name, value in own.items():
        if name.endswith("num_batches_tracked") and name not in weights and name.replace(*_COUNTED) in weights:
            weights[name] = torch.zeros(value.shape, dtype=value.dtype)
    return OrderedDict((name, weights[name]) for name in own if name in weights), report


def _packed(weights: Mapping[str, Tensor], meta: Mapping[str, Any], suffix: str) -> bytes:
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    plain = {str(key): value for key, value in ((k, _plain(v)) for k, v in meta.items()) if value is not None}
    if suffix == ".safetensors":
        try:
            library = importlib.import_module("safetensors.torch")
        except ImportError:
            raise EnvironmentProblem("writing .safetensors needs: pip install 'fastdet[safetensors]'") from None
        own = {name: value.clone() for name, value in tensors.items()}  # It refuses shared memory.
        packed: bytes = library.save(own, {key: json.dumps(value) for key, value in plain.items()})
        return packed
    buffer = io.BytesIO()
    torch.save({"meta": plain, "state_dict": {n: _compact(v) for n, v in tensors.items()}}, buffer)
    return buffer.getvalue()


def _compact(value: Tensor) -> Tensor:
    """Without the rest of a larger storage, which torch.save would write too."""
    return value.clone() if value.untyped_storage().nbytes() != value.numel() * value.element_size() else value


def _plain(value: Any) -> Any:
    """Only what every reader opens under weights_only: objects of other packages are left out."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, StandIn):
        return None
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def _parts(weights: Mapping[str, Tensor]) -> list[str]:
    counts: dict[str, int] = {}
    for name, value in weights.items():
        part = name.partition(".")[0]
        counts[part] = counts.get(part, 0) + value.numel()
    return [f"{part} {count:,}" for part, count in counts.items()]


def _classes(checkpoint: Checkpoint) -> str:
    names = checkpoint.classes
    if not names:
        return "not told"
    return f"{len(names)}: {', '.join(names[:_SHOWN_CLASSES])}" + (", ..." if len(names) > _SHOWN_CLASSES else "")
