"""Builds the native modules: fastdet._ops and fastdet._ops_cuda (torch ops on libtorch's stable ABI) and fastdet._C.

Environment variables:
    FASTDET_CUDA: 1 requires the CUDA kernels, 0 leaves them out; by default they are built when nvcc is found.
    CUDA_HOME: the CUDA toolkit; by default the one that nvcc on the PATH belongs to.
    TORCH_CUDA_ARCH_LIST: the GPU architectures; by default "8.0;9.0+PTX", which runs on Ampere and everything later.
    MAX_JOBS: compilations at a time.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

try:
    import torch
except ImportError:
    sys.exit("fastdet is built against torch, which is not installed: run `pip install torch` first")

ROOT = Path(__file__).parent
DEFAULT_ARCHS = "8.0;9.0+PTX"
# The oldest torch whose stable ABI the ops use: the built modules run with this and every later version.
TORCH_TARGET = ["-DTORCH_TARGET_VERSION=0x020b000000000000"]
PYTHON_TARGET = ("Py_LIMITED_API", "0x030A0000")
# Without contraction a comparison with a threshold is decided equally by every processor.
CXX_FLAGS = ["-O3", "-g0", "-ffp-contract=off", "-fvisibility=hidden", "-Wall"]
NVCC_FLAGS = ["-O3", "-Xcompiler", "-fvisibility=hidden"]


def is_toolkit(folder: Path) -> bool:
    """Whether a folder holds the compiler and the headers."""
    return (folder / "bin" / "nvcc").exists() and (folder / "include" / "cuda_runtime.h").exists()


def find_toolkit() -> Path | None:
    """The CUDA toolkit of CUDA_HOME, or the one behind `nvcc`, which may be a wrapper script outside the toolkit."""
    for name in ("CUDA_HOME", "CUDA_PATH"):
        folder = os.environ.get(name)
        if folder and is_toolkit(Path(folder)):
            return Path(folder)
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        return None
    dry_run = subprocess.run([nvcc, "--dryrun", "-c", "probe.cu"], capture_output=True, text=True, check=False)
    top = re.search(r"^#\$ TOP=(.*)$", dry_run.stderr, re.MULTILINE)
    folder = Path(top.group(1).strip()).resolve() if top else Path(nvcc).resolve().parent.parent
    return folder if is_toolkit(folder) else None


def toolkit_version(folder: Path) -> str:
    """Such as "13.0"."""
    text = subprocess.run([folder / "bin" / "nvcc", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"release (\d+\.\d+)", text)
    return found.group(1) if found else "unknown"


def choose_cuda() -> tuple[Path | None, str]:
    """The toolkit to build with, or None, and one line that says why."""
    wanted = os.environ.get("FASTDET_CUDA", "")
    if wanted not in ("", "0", "1"):
        sys.exit(f"FASTDET_CUDA must be 0 or 1, got {wanted!r}")
    if wanted == "0":
        return None, "CPU kernels only (FASTDET_CUDA=0)"
    toolkit = find_toolkit()
    if torch.version.cuda is None:
        problem = f"torch {torch.__version__} is built without CUDA"
    elif toolkit is None:
        problem = "no nvcc found; put it on the PATH or set CUDA_HOME"
    elif toolkit_version(toolkit).split(".")[0] != torch.version.cuda.split(".")[0]:
        problem = f"the toolkit in {toolkit} is CUDA {toolkit_version(toolkit)}, torch's is {torch.version.cuda}"
    else:
        archs = os.environ.setdefault("TORCH_CUDA_ARCH_LIST", DEFAULT_ARCHS)
        return toolkit, f"CPU and CUDA kernels for {archs} with the toolkit in {toolkit}"
    if wanted == "1":
        sys.exit(f"FASTDET_CUDA=1, but {problem}")
    return None, f"CPU kernels only ({problem})"


TOOLKIT, DECISION = choose_cuda()
if TOOLKIT is not None:
    os.environ["CUDA_HOME"] = str(TOOLKIT)  # read when torch.utils.cpp_extension is imported

from torch.utils.cpp_extension import BuildExtension, CppExtension, CUDAExtension  # noqa: E402


def sources(folder: str, pattern: str) -> list[str]:
    """Paths relative to the root, in a fixed order."""
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc" / folder).glob(pattern))


KERNELS = [*sources("kernels", "*.cpp"), *sources("kernels/simd", "*.cpp")]
BINDINGS = [path for path in sources("torch", "*.cpp") if not path.endswith("_cuda.cpp")]
CUDA_SOURCES = [*sources("kernels", "*.cu"), *sources("torch", "*_cuda.cpp")]
HEADERS = [
    path
    for folder in ("kernels", "torch", "python")
    for pattern in ("*.h", "*.cuh", "*.inl")
    for path in sources(folder, pattern)
]


def extensions() -> list[Extension]:
    """The native modules of this build."""
    import pybind11

    modules = [
        CppExtension(
            "fastdet._ops",
            [*BINDINGS, *KERNELS],
            depends=HEADERS,
            define_macros=[PYTHON_TARGET],
            py_limited_api=True,
            extra_compile_args={"cxx": CXX_FLAGS + TORCH_TARGET},
        )
    ]
    if TOOLKIT is not None:
        cuda_target = [*TORCH_TARGET, "-DUSE_CUDA"]
        modules.append(
            CUDAExtension(
                "fastdet._ops_cuda",
                CUDA_SOURCES,
                depends=HEADERS,
                define_macros=[PYTHON_TARGET],
                py_limited_api=True,
                extra_compile_args={"cxx": CXX_FLAGS + cuda_target, "nvcc": NVCC_FLAGS + cuda_target},
            )
        )
    modules.append(
        Extension(
            "fastdet._C",
            sources("python", "*.cpp"),
            depends=HEADERS,
            include_dirs=[pybind11.get_include()],
            language="c++",
            extra_compile_args={"cxx": CXX_FLAGS},
        )
    )
    return modules


class BuildNativeModules(BuildExtension):
    """torch's ninja build; the kernels are compiled for fastdet._ops and linked into fastdet._C as well."""

    def build_extensions(self) -> None:
        print(f"fastdet: {DECISION}", flush=True)
        # Ninja keeps one build file a folder, so each module gets its own.
        self.base = os.path.abspath(self.build_temp)
        self.write_build_info()
        if TOOLKIT is None:
            self.remove_stale_cuda_module()
        super().build_extensions()

    def build_extension(self, ext: Extension) -> None:
        self.build_temp = os.path.join(self.base, ext.name)
        if ext.name == "fastdet._C":
            kernels = Path(self.base) / "fastdet._ops"
            ext.extra_objects = [str((kernels / source).with_suffix(".o")) for source in KERNELS]
            ext.include_dirs.append(self.base)
        super().build_extension(ext)
        self.build_temp = self.base

    def remove_stale_cuda_module(self) -> None:
        """Of an earlier build with CUDA: it would be packed or loaded beside the new fastdet._ops."""
        folders = [Path(self.build_lib) / "fastdet"]
        if self.inplace or self.editable_mode:
            folders.append(ROOT / "fastdet")
        for folder in folders:
            for stale in folder.glob("_ops_cuda*.so"):
                stale.unlink()

    def write_build_info(self) -> None:
        """A header with what fastdet._C.build_info() tells."""
        facts = {
            "TORCH_VERSION": torch.__version__,
            "CUDA_VERSION": toolkit_version(TOOLKIT) if TOOLKIT is not None else "",
            "CUDA_ARCHS": os.environ["TORCH_CUDA_ARCH_LIST"] if TOOLKIT is not None else "",
            "PYTHON_VERSION": platform.python_version(),
        }
        text = "".join(f'#define FASTDET_BUILD_{name} "{value}"\n' for name, value in facts.items())
        header = Path(self.base) / "fastdet_build_info.h"
        header.parent.mkdir(parents=True, exist_ok=True)
        if not header.exists() or header.read_text() != text:
            header.write_text(text)


class BuildWithSources(build_py):
    """Packs what `fastdet export --plugins` compiles where fastdet is installed without its repository."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        packed = Path(self.build_lib) / "fastdet" / "deploy" / "plugins"
        files = [path for path in sources("plugins", "**/*") if (ROOT / path).is_file()]
        for path in [*files, *sources("kernels", "*.h"), *sources("kernels", "*.cuh")]:
            target = packed / path
            target.parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(str(ROOT / path), str(target))


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildNativeModules, "build_py": BuildWithSources})
