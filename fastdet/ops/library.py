"""Loads the native op libraries, so that torch.ops.fastdet holds the kernels."""

import importlib
import importlib.util

import torch

BUILD_COMMAND = "pip install --no-build-isolation -e ."


def load_libraries() -> None:
    """Registers the CPU ops, and the CUDA ops where torch has CUDA and they were built.

    Raises:
        ImportError: The native modules are missing or do not load; the message names the command that builds them.
    """
    try:
        importlib.import_module("fastdet._ops")
    except ImportError as error:
        raise ImportError(
            f"fastdet's native ops do not load ({error}). Build them in the source folder with "
            f"`{BUILD_COMMAND}`; `python -m fastdet.doctor` shows what is wrong."
        ) from error
    if torch.version.cuda is not None and importlib.util.find_spec("fastdet._ops_cuda") is not None:
        try:
            importlib.import_module("fastdet._ops_cuda")
        except ImportError as error:
            raise ImportError(
                f"fastdet's CUDA ops do not load ({error}). Build them again for this torch "
                f"({torch.__version__}, CUDA {torch.version.cuda}) with `{BUILD_COMMAND}`, or without CUDA with "
                f"`FASTDET_CUDA=0 {BUILD_COMMAND}`."
            ) from error


load_libraries()
