"""`load_checkpoint`: weights and what was stored with them, whatever wrote the file."""

import importlib
import json
import os
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from fastdet.compat.checkpoints.resolve import resolve
from fastdet.compat.checkpoints.timm_weights import SCHEME, timm_weights
from fastdet.compat.checkpoints.unpickle import read_numpy_pickle, read_pickle, read_trusted_pickle
from fastdet.utils.errors import CheckpointError, EnvironmentProblem

# What wrappers (DataParallel, torch.compile) put before every name.
_WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+")
_WEIGHT_SECTIONS = ("state_dict", "model", "model_state_dict", "model_state", "blobs")
_PICKLES = (".pkl", ".pickle")  # Detectron's and Detectron2's, which hold NumPy arrays.


CONFIG_KEYS = ("cfg", "config")
"""Where MMEngine's and MMCV's files keep their config, in `meta`."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The content of a checkpoint file.

    `state_dict` holds the weights to use: the averaged ones if the file has an exponential moving average.
    `raw_weights` then holds what the optimizer was training, under the same names. `extras` holds every other section
    of the file (`message_hub`, `param_schedulers`, ...), untouched.
    """

    path: Path
    state_dict: "OrderedDict[str, Tensor]"
    meta: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] | None = None
    raw_weights: dict[str, Tensor] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in label order, empty if the file does not tell."""
        dataset = self.meta.get("dataset_meta")
        known = {str(k).lower(): v for k, v in dataset.items()} if isinstance(dataset, Mapping) else {}
        names = known.get("classes", self.meta.get("CLASSES"))
        return tuple(map(str, names)) if isinstance(names, list | tuple) else ()

    @property
    def config_text(self) -> str:
        """The config that the file holds (`cfg` of MMEngine's files and ours, `config` of MMCV's), "" for none."""
        texts = (self.meta.get(key) for key in CONFIG_KEYS)
        return next((text for text in texts if isinstance(text, str) and text.strip()), "")


def load_checkpoint(
    path_or_name: str | os.PathLike[str],
    map_location: Any = "cpu",
    *,
    trust: bool = False,
    asked_by: str | None = None,
) -> Checkpoint:
    """Reads a checkpoint of fastdet, MMDetection 2.x or 3.x, a plain state dict, safetensors, or Detectron2's .pkl.

    Args:
        path_or_name: a path, a URL, or a name such as `torchvision://resnet50`, see `resolve`; `timm://name` asks the
            package timm.
        map_location: device of the tensors, as for torch.load.
        trust: lets pickled code run; only for files of a trusted author.
        asked_by: the config key that names the file, for messages.

    Raises:
        CheckpointError: a file that is missing, damaged, without weights, or holds objects that only a trusted file
            may hold.
    """
    if str(path_or_name).startswith(SCHEME):
        return Checkpoint(path=Path(path_or_name), state_dict=timm_weights(str(path_or_name)))
    path = resolve(path_or_name, asked_by=asked_by)
    if path.suffix == ".safetensors":
        tensors, meta = _read_safetensors(path, map_location)
        return Checkpoint(path=path, state_dict=_weights(tensors, path), meta=meta)
    content: Any
    if path.suffix in _PICKLES:
        content = read_numpy_pickle(path, map_location)
    else:
        content = read_trusted_pickle(path, map_location) if trust else read_pickle(path, map_location)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds no checkpoint but a {type(content).__name__}")
    section = next((s for s in _WEIGHT_SECTIONS if isinstance(content.get(s), Mapping)), None)
    if section is None:
        return Checkpoint(path=path, state_dict=_weights(content, path))
    weights, raw = _without_shadow_buffers(_weights(content[section], path))
    if isinstance(content.get("ema_state_dict"), Mapping):
        raw = {k: v for k, v in _weights(content["ema_state_dict"], path).items() if k in weights}
    used = {section, "meta", "optimizer", "ema_state_dict"}
    return Checkpoint(
        path=path,
        state_dict=weights,
        meta=dict(content.get("meta") or {}),
        optimizer=content.get("optimizer"),
        raw_weights=raw,
        extras={k: v for k, v in content.items() if k not in used},
    )


def _weights(section: Mapping[str, Any], path: Path) -> "OrderedDict[str, Tensor]":
    """The tensors under their names without wrappers' prefixes; versions of modules are kept."""
    result = OrderedDict((_WRAPPERS.sub("", str(k)), v) for k, v in section.items() if isinstance(v, Tensor))
    if not result:
        raise CheckpointError(f"{path} holds no weights; its sections: {', '.join(map(str, section)) or 'none'}")
    versions = getattr(section, "_metadata", None)
    if versions is not None:
        result._metadata = OrderedDict(  # type: ignore[attr-defined]
            (_WRAPPERS.sub("", f"{k}.").removesuffix("."), v) for k, v in versions.items()
        )
    return result


def _without_shadow_buffers(
    weights: "OrderedDict[str, Tensor]",
) -> tuple["OrderedDict[str, Tensor]", dict[str, Tensor]]:
    """Takes out the `ema_a_b_weight` buffers of MMDetection 2.x, named after `a.b.weight`.

    Its EMA hook swaps averaged and trained weights before a checkpoint is written: the proper names hold the averages,
    the buffers the trained weights.
    """
    shadows = {f"ema_{name.replace('.', '_')}": name for name in weights}
    raw = {shadows[name]: value for name, value in weights.items() if name in shadows}
    for name in [n for n in weights if n in shadows]:
        del weights[name]
    return weights, raw


def _read_safetensors(path: Path, map_location: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors, and the header's metadata with JSON values parsed."""
    try:
        safetensors = importlib.import_module("safetensors")
    except ImportError:
        raise EnvironmentProblem(
            f"{path.name} needs the package safetensors: pip install 'fastdet[safetensors]'"
        ) from None
    device = map_location if isinstance(map_location, str) else str(map_location)
    try:
        with safetensors.safe_open(path, framework="pt", device=device) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            texts = file.metadata() or {}
    except safetensors.SafetensorError as problem:
        raise CheckpointError(f"{path} is damaged, or no safetensors file: {problem}") from None
    return tensors, {name: _parsed(text) for name, text in texts.items()}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
