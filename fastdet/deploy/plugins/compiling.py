"""CUDA sources of `csrc/plugins` as PTX, by NVRTC: no toolkit, no header of CUDA's, no GPU."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastdet.utils.errors import EnvironmentProblem, FastdetError

OLDEST_ARCHITECTURE = "compute_80"
_HERE = Path(__file__).resolve()


def source_folder() -> Path:
    """Where `kernels/` and `plugins/` lie: inside of an installed package, or in the tree that fastdet runs from.

    Raises:
        EnvironmentProblem: in neither.
    """
    for folder in (_HERE.parent / "csrc", _HERE.parents[3] / "csrc"):
        if (folder / "plugins").is_dir():
            return folder
    raise EnvironmentProblem(
        "--plugins: the CUDA sources of the plugins are not in this installation: install fastdet's wheel, or run it "
        "from its repository"
    )


@functools.cache
def compile_ptx(source: str, macros: Sequence[tuple[str, str]], architecture: str = OLDEST_ARCHITECTURE) -> str:
    """PTX of one file of `csrc/plugins`, made once in a process.

    Args:
        source: its name.
        macros: names and values that the file asks for.
        architecture: "compute_80" and so on: the PTX runs on that GPU and every later one.

    Raises:
        EnvironmentProblem: NVRTC or its Python interface is missing.
        FastdetError: the compiler refuses the source; the message has its log.
    """
    nvrtc = _nvrtc()
    folder = source_folder()
    options = [
        f"--gpu-architecture={architecture}",
        "--std=c++17",
        "--device-as-default-execution-space",
        f"--include-path={folder}",
        f"--include-path={folder / 'plugins' / 'nvrtc'}",  # stands for headers that NVRTC has not
        *(f"--define-macro={name}={value}" for name, value in macros),
    ]
    text = (folder / "plugins" / source).read_bytes()
    program = _value(nvrtc, *nvrtc.nvrtcCreateProgram(text, source.encode(), 0, [], []))
    try:
        status = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])[0]
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            log = bytearray(_value(nvrtc, *nvrtc.nvrtcGetProgramLogSize(program)))
            nvrtc.nvrtcGetProgramLog(program, log)
            raise FastdetError(f"NVRTC cannot compile {source} for {architecture}: {log.decode().strip()}")
        ptx = bytearray(_value(nvrtc, *nvrtc.nvrtcGetPTXSize(program)))
        nvrtc.nvrtcGetPTX(program, ptx)
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return ptx.rstrip(b"\0").decode()


def check_compiler() -> None:
    """
    Raises:
        EnvironmentProblem: the sources or NVRTC are missing.
    """
    source_folder()
    _nvrtc()


def _nvrtc() -> Any:
    """The Python interface of NVRTC, which loads the library."""
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError, OSError) as problem:
        raise EnvironmentProblem(
            f"--plugins compiles CUDA sources and needs NVRTC ({problem}): pip install cuda-bindings nvidia-cuda-nvrtc"
        ) from problem
    return nvrtc


def _value(nvrtc: Any, status: Any, value: Any = None) -> Any:
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise FastdetError(f"NVRTC: {status}")
    return value
