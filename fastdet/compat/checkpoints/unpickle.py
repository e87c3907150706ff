"""Reading .pth files without running what they contain.

PyTorch's `weights_only` reader makes objects of listed types only. Beside tensors and plain values, MMDetection's
checkpoints hold NumPy values, dates, and objects of MMEngine and MMCV. Those get a stand-in here, which keeps their
state and does nothing, so that neither package has to be installed or trusted.
"""

import contextlib
import datetime
import pathlib
import pickle
import re
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastdet.utils.errors import CheckpointError

# Objects of these packages are stored in checkpoints for information; a stand-in serves.
_STOOD_FOR = ("mmengine", "mmcv", "mmdet", "mmcls", "mmpretrain", "addict")
_DICTS = (
    "mmengine.config.config.ConfigDict",
    "mmcv.utils.config.ConfigDict",
    "addict.addict.Dict",
    "collections.defaultdict",
)
_HISTORY_BUFFER = "mmengine.logging.history_buffer.HistoryBuffer"


class StandIn:
    """Keeps what was stored of an object whose class is not here; `type_name` is the class's full name."""

    type_name = ""

    state: Any

    def __new__(cls, *arguments: Any) -> "StandIn":
        stored = object.__new__(cls)
        stored.state = arguments
        return stored

    def __init__(self, *arguments: Any) -> None:
        """Takes whatever the class took."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __repr__(self) -> str:
        return f"<stored {self.type_name}>"


class _StoredDict:
    """Dicts of other packages come back as OrderedDicts, the only kind that the reader also lets have attributes."""

    def __new__(cls, *arguments: Any) -> Any:
        return OrderedDict(*(a for a in arguments if isinstance(a, dict)))


def _stored_attribute(owner: Any, name: str) -> str:
    """For `getattr(Class, "method")` in MMEngine's history buffers: the method's name, and no attribute access."""
    if _is_stand_in(owner):
        return f"{owner.type_name}.{name}"
    raise pickle.UnpicklingError(f"Unsupported global: GLOBAL getattr of {owner!r}")


def _is_stand_in(owner: Any) -> bool:
    return isinstance(owner, type) and issubclass(owner, StandIn)


def _stand_in(name: str) -> type:
    return type(name.rpartition(".")[2], (StandIn,), {"type_name": name})


def _allowed() -> list[Any]:
    """Types and functions that files may name, as torch.serialization.safe_globals takes them."""
    scalar, reconstruct = np._core.multiarray.scalar, np._core.multiarray._reconstruct  # type: ignore[attr-defined]
    entries: list[Any] = [(np.ndarray, "numpy.ndarray"), (np.dtype, "numpy.dtype")]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        entries += [(scalar, f"{module}.scalar"), (reconstruct, f"{module}._reconstruct")]
    entries += [getattr(np.dtypes, name) for name in np.dtypes.__all__]
    entries += [datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone]
    entries += [(t, f"builtins.{t.__name__}") for t in (int, float, str, bool, list, tuple, dict, frozenset)]
    for path in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"):
        # A path of the other system cannot be made here; its parts are the same.
        entries += [(pathlib.PurePosixPath, f"{module}.{path}") for module in ("pathlib", "pathlib._local")]
    entries += [(_StoredDict, name) for name in _DICTS]
    entries += [(_stand_in(_HISTORY_BUFFER), _HISTORY_BUFFER), (_stored_attribute, "builtins.getattr")]
    return entries


def read_pickle(path: Path, map_location: Any = "cpu") -> Any:
    """The content of a .pth file, made of tensors, plain values, NumPy values and stand-ins.

    Raises:
        CheckpointError: a file that is damaged or no checkpoint, or that holds objects of other types.
    """
    allowed = _allowed()
    added: set[str] = set()
    while True:
        try:
            with torch.serialization.safe_globals(allowed):
                return torch.load(path, map_location=map_location, weights_only=True)
        except pickle.UnpicklingError as problem:
            found = re.search(r"GLOBAL ([\w.]+)", str(problem))
            name = found[1] if found else ""
            if name.split(".")[0] not in _STOOD_FOR or name in added:
                raise CheckpointError(_refusal(path, name, str(problem), {_name(a) for a in allowed})) from None
            added.add(name)
            allowed.append((_stand_in(name), name))
        except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, TypeError) as problem:
            raise CheckpointError(f"{path} is damaged, or no checkpoint: {problem}") from None


def read_numpy_pickle(path: Path, map_location: Any = "cpu") -> Any:
    """The content of a .pkl file of plain values and NumPy arrays, as Detectron2's releases are; arrays as tensors.

    Raises:
        CheckpointError: a file that is damaged, or that holds objects of other types.
    """
    try:
        with open(path, "rb") as file:
            return _as_tensors(_NumpyUnpickler(file, encoding="latin1").load(), map_location)
    except _RefusedType as problem:
        raise CheckpointError(
            f"{path} was saved by pickle with {problem}: only plain values and NumPy arrays are read from a .pkl"
        ) from None
    except (pickle.UnpicklingError, EOFError, ValueError, KeyError, AttributeError, TypeError, IndexError) as problem:
        raise CheckpointError(f"{path} is damaged, or no checkpoint: {problem}") from None


class _RefusedType(Exception):
    """A type outside the allow-list."""


class _NumpyUnpickler(pickle.Unpickler):
    """Makes NumPy arrays and scalars, and dicts; every other type is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):  # how Python 2's bytes are stored
            return lambda text, encoding="latin1": str(text).encode("latin1")
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray"):
            multiarray = np._core.multiarray  # type: ignore[attr-defined]
            makers = {"scalar": multiarray.scalar, "_reconstruct": multiarray._reconstruct}
            allowed = {"ndarray": np.ndarray, "dtype": np.dtype, **makers}
            if name in allowed:
                return allowed[name]
        raise _RefusedType(f"{module}.{name}")


def _as_tensors(value: Any, device: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype != object:
        return torch.from_numpy(np.ascontiguousarray(value)).to(device)
    if isinstance(value, dict):
        return {key: _as_tensors(item, device) for key, item in value.items()}
    return value


def read_trusted_pickle(path: Path, map_location: Any = "cpu") -> Any:
    """The content of a .pth file whose author is trusted: pickled code runs. Missing packages get stand-ins."""
    module = types.ModuleType("fastdet_trusted_pickle")
    module.Unpickler = _TrustingUnpickler  # type: ignore[attr-defined]
    module.load = lambda file, **options: _TrustingUnpickler(file, **options).load()  # type: ignore[attr-defined]
    try:
        return torch.load(path, map_location=map_location, weights_only=False, pickle_module=module)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, TypeError) as problem:
        raise CheckpointError(f"{path} is damaged, or no checkpoint: {problem}") from None


class _TrustingUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("builtins", "getattr"), ("__builtin__", "getattr")):
            return lambda owner, attribute: (
                _stored_attribute(owner, attribute) if _is_stand_in(owner) else getattr(owner, attribute)
            )
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):
            full = f"{module}.{name}"
            return _StoredDict if full in _DICTS else _stand_in(full)


def _refusal(path: Path, name: str, problem: str, allowed: set[str]) -> str:
    names = {name} if name else set()
    # Files from before PyTorch 1.6 cannot be listed: the first name is known all the same.
    with contextlib.suppress(RuntimeError, ValueError, pickle.UnpicklingError):
        names |= {n for n in torch.serialization.get_unsafe_globals_in_checkpoint(path) if n not in allowed}
    names = {n for n in names if n.split(".")[0] not in _STOOD_FOR}
    reason = re.search(r"WeightsUnpickler error: (.*)", problem)
    if names:
        what = f"was saved by pickle with types outside the allow-list: {', '.join(sorted(names))}"
    else:
        detail = reason[1].strip() if reason else problem.splitlines()[0]
        what = f"is no checkpoint, or damaged{f': {detail}' if detail else ''}"
    return (
        f"{path} {what}\n"
        "  only if you trust its author, as it can run any code: --trust-checkpoint\n"
        "  (MMEngine's and MMCV's objects, NumPy values and dates are read without it)"
    )


def _name(entry: Any) -> str:
    return entry[1] if isinstance(entry, tuple) else f"{entry.__module__}.{entry.__qualname__}"
