"""Facts about the machine, the packages and the native build, and what is wrong with them.

Nothing here fails: what cannot be found out is told as such, also where torch or the native modules are missing.
Torch is therefore imported inside functions only.
"""

import importlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import fastdet

REQUIRED = ("torch", "torchvision", "numpy", "pycocotools", "rich")
OPTIONAL = ("hotcoco", "pyyaml", "safetensors")
OPENCV = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
OLDEST_TORCH = (2, 11)
BUILD_COMMAND = "pip install --no-build-isolation -e ."
NEVER_RUN = "never run on a GPU here"


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What `fastdet doctor` prints and a training writes into its log and `env.json`."""

    fastdet: str
    python: str
    system: str
    cpu: str
    threads: str
    packages: dict[str, str]  # installed ones, by name
    torch_cuda: str  # the CUDA that torch was built with, or "none"
    devices: tuple[str, ...]  # GPUs with their compute capability
    nvcc: str
    cpu_ops: str
    cuda_ops: str
    unproven_cuda_ops: tuple[str, ...]  # built, and never run on any GPU as far as is known
    unproven_plugins: tuple[str, ...]  # likewise, kernels for engines of TensorRT
    python_module: str
    problems: tuple[str, ...]  # each with its fix; empty when all is well

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class NativeState:
    """How the native modules fare."""

    cpu_ops: str
    cuda_ops: str
    python_module: str
    problems: tuple[str, ...]
    unproven_cuda_ops: tuple[str, ...] = ()
    unproven_plugins: tuple[str, ...] = ()


def collect_environment() -> Environment:
    """Gathers all facts; takes the seconds that importing torch takes."""
    packages = installed_packages()
    torch, torch_problems = load_torch(packages)
    devices = gpu_names(torch)
    native = native_state(torch, devices)
    return Environment(
        fastdet=fastdet.__version__,
        python=f"{platform.python_version()} ({sys.executable})",
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=f"{cpu_name()}, {os.cpu_count()} logical cores",
        threads=thread_counts(torch),
        packages=packages,
        torch_cuda=(torch.version.cuda or "none") if torch is not None else "none",
        devices=devices,
        nvcc=nvcc_version(),
        cpu_ops=native.cpu_ops,
        cuda_ops=native.cuda_ops,
        unproven_cuda_ops=native.unproven_cuda_ops,
        unproven_plugins=native.unproven_plugins,
        python_module=native.python_module,
        problems=(*package_problems(packages), *torch_problems, *native.problems),
    )


def describe_environment(environment: Environment) -> str:
    """The facts as aligned lines, problems last."""
    rows = [
        ("fastdet", environment.fastdet),
        ("python", environment.python),
        ("system", environment.system),
        ("cpu", environment.cpu),
        ("threads", environment.threads),
        *environment.packages.items(),
        ("torch's CUDA", environment.torch_cuda),
        ("nvcc", environment.nvcc),
        *[(f"GPU {i}", name) for i, name in enumerate(environment.devices)],
        ("CPU ops", environment.cpu_ops),
        ("CUDA ops", environment.cuda_ops),
        *([("never on a GPU", ", ".join(environment.unproven_cuda_ops))] if environment.unproven_cuda_ops else []),
        *[("plugins", f"never on a GPU: {', '.join(names)}") for names in [environment.unproven_plugins] if names],
        ("fastdet._C", environment.python_module),
        *[("PROBLEM", problem) for problem in environment.problems],
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def installed_packages() -> dict[str, str]:
    """Versions of the packages that fastdet knows, by name."""
    versions = {}
    for name in (*REQUIRED, *OPENCV, *OPTIONAL):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def package_problems(packages: dict[str, str]) -> list[str]:
    """Required packages that are missing, and packages that overwrite each other's files."""
    problems = [f"{name} is not installed: pip install {name}" for name in REQUIRED if name not in packages]
    opencv = [name for name in OPENCV if name in packages]
    if not opencv:
        problems.append("OpenCV is not installed: pip install opencv-python-headless")
    if len(opencv) > 1:
        problems.append(
            f"{' and '.join(opencv)} are both installed and overwrite each other's cv2: "
            f"pip uninstall -y {' '.join(opencv)} && pip install opencv-python-headless"
        )
    return problems


def load_torch(packages: dict[str, str]) -> tuple[Any, list[str]]:
    """The torch module, or None, and what is wrong with torch and torchvision."""
    if "torch" not in packages:
        return None, []
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:
        return None, [f"torch {packages['torch']} does not import ({error}): install it again"]
    problems = []
    version = tuple(int(number) for number in re.findall(r"\d+", torch.__version__)[:2])
    if version < OLDEST_TORCH:
        problems.append(f"torch {torch.__version__} is older than 2.11: pip install -U torch torchvision")
    if "torchvision" in packages:
        try:
            importlib.import_module("torchvision")
        except (ImportError, OSError, RuntimeError) as error:
            problems.append(
                f"torchvision {packages['torchvision']} does not fit torch {torch.__version__} ({error}): "
                "install the pair that belongs together, pip install -U torch torchvision"
            )
    return torch, problems


def native_state(torch: Any, devices: tuple[str, ...]) -> NativeState:
    """Loads the native modules and runs a known case on each device that is here."""
    problems: list[str] = []
    build: dict[str, str] = {}
    try:
        build = importlib.import_module("fastdet._C").build_info()
        python_module = f"built with Python {build['python']}, compiler {build['compiler']}"
    except ImportError as error:
        python_module = f"does not load ({error})"
        problems.append(f"fastdet._C does not load ({error}): {BUILD_COMMAND}")
    if torch is None:
        return NativeState(
            cpu_ops="not looked at without torch", cuda_ops="not looked at without torch",
            python_module=python_module, problems=tuple(problems),
        )  # fmt: skip
    try:
        importlib.import_module("fastdet.ops")
    except (ImportError, OSError) as error:
        problems.append(str(error))
        return NativeState(
            cpu_ops="do not load", cuda_ops="do not load", python_module=python_module, problems=tuple(problems)
        )
    ran = known_case(torch, "cpu")
    if ran != "ok":
        problems.append(f"the CPU ops fail on a known case ({ran}): build them again, {BUILD_COMMAND}")
    built_with = f"built with torch {build['torch']}, {build['cpu_kernels']} loops, " if build else ""
    cuda_ops, cuda_problems = cuda_state(torch, devices, build)
    status = importlib.import_module("fastdet.ops.gpu_status")
    return NativeState(
        cpu_ops=f"{built_with}known case {ran}",
        cuda_ops=cuda_ops,
        python_module=python_module,
        problems=(*problems, *cuda_problems),
        unproven_cuda_ops=status.never_run_on_a_gpu(),
        unproven_plugins=status.PLUGINS_NEVER_RUN_ON_A_GPU,
    )


def cuda_state(torch: Any, devices: tuple[str, ...], build: dict[str, str]) -> tuple[str, list[str]]:
    """How the CUDA ops fare, and what is wrong with them."""
    if importlib.util.find_spec("fastdet._ops_cuda") is None:
        if not devices:
            return "not built", []
        return "not built", [f"a GPU is here, but the CUDA ops were not built: FASTDET_CUDA=1 {BUILD_COMMAND}"]
    archs, toolkit = build.get("cuda_archs", ""), build.get("cuda", "")
    built_with = f"built for {archs or 'unknown GPUs'} with CUDA {toolkit or 'unknown'}"
    if torch.version.cuda is None:
        return f"{built_with}, unused: this torch has no CUDA", []
    problems = []
    if toolkit and toolkit.split(".")[0] != torch.version.cuda.split(".")[0]:
        problems.append(
            f"the CUDA ops were built with CUDA {toolkit}, torch {torch.__version__} runs CUDA {torch.version.cuda}: "
            f"install a toolkit of that version and build again, {BUILD_COMMAND}"
        )
    if not devices:
        return f"{built_with}, {NEVER_RUN}", problems
    results = [known_case(torch, f"cuda:{index}") for index in range(len(devices))]
    for name, result in zip(devices, results, strict=True):
        if result != "ok":
            problems.append(
                f"the CUDA ops fail on {name} ({result}): build them for it, "
                f'TORCH_CUDA_ARCH_LIST="{capability_of(name)}" {BUILD_COMMAND}'
            )
    return f"{built_with}, known case {', '.join(results)}", problems


def known_case(torch: Any, device: str) -> str:
    """Runs a small NMS with a known answer on a device: "ok", or what went wrong."""
    from fastdet.ops import nms

    try:
        boxes = torch.tensor([[6.0, 3, 8, 7], [3, 6, 9, 11], [3, 7, 10, 12], [1, 4, 13, 7]], device=device)
        kept = nms(boxes, torch.tensor([0.6, 0.9, 0.7, 0.2], device=device), 0.3).tolist()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return "ok" if kept == [1, 0, 3] else f"wrong answer {kept}"


def gpu_names(torch: Any) -> tuple[str, ...]:
    """Names and compute capabilities of the GPUs that torch sees."""
    if torch is None or not torch.cuda.is_available():
        return ()
    names = []
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        names.append(f"{torch.cuda.get_device_name(index)} ({major}.{minor})")
    return tuple(names)


def capability_of(device: str) -> str:
    """The "9.0" of a name that `gpu_names` made."""
    return device.rsplit("(", 1)[1].rstrip(")")


def thread_counts(torch: Any) -> str:
    """How many threads torch uses, and the variables that decide it."""
    variables = [f"{name}={os.environ[name]}" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if name in os.environ]
    used = "unknown without torch" if torch is None else f"{torch.get_num_threads()} in torch"
    return ", ".join([used, *variables])


def cpu_name() -> str:
    """The processor's name as the system tells it."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found else platform.processor() or platform.machine()


def nvcc_version() -> str:
    """Version and place of the nvcc on the PATH."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        return "not on the PATH"
    answer = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"release (\d+\.\d+)", answer)
    return f"{found.group(1) if found else 'unknown version'} ({nvcc})"
