"""Pickles that other programs wrote: arrays and plain containers are read, anything else is refused."""

import pickle
from pathlib import Path
from typing import Any

from fastdet.utils.errors import DataError

# What dicts, lists and NumPy arrays ask for; anything else could run code.
_ALLOWED = {
    (module, name)
    for module, names in {
        "numpy": ("ndarray", "dtype"),
        "numpy.core.multiarray": ("_reconstruct", "scalar"),
        "numpy._core.multiarray": ("_reconstruct", "scalar"),
        "numpy._core.numeric": ("_frombuffer",),
        "numpy.core.numeric": ("_frombuffer",),
        "_codecs": ("encode",),
    }.items()
    for name in names
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it holds a {module}.{name}, which is no array")
        return super().find_class(module, name)


def load_plain_pickle(path: str, noun: str) -> Any:
    """The content of a pickle of arrays, dicts, lists and plain values; reading it runs no code.

    Args:
        noun: what it holds, for messages.

    Raises:
        DataError: the file is missing, or no such pickle.
    """
    try:
        with Path(path).open("rb") as file:
            return _Unpickler(file).load()
    except OSError as problem:
        raise DataError(f"{path}: {noun} cannot be read: {problem.strerror or problem}") from problem
    except Exception as problem:
        raise DataError(f"{path}: no pickle of {noun}: {problem}") from problem
