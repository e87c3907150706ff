"""The facts about machine and software that go with every result."""

import platform
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torchvision


def facts(command: str, device: str, threads: int) -> dict[str, Any]:
    """What a figure means nothing without."""
    return {
        "command": command,
        "commit": _commit(),
        "device": device,
        "hardware": _hardware(device),
        "threads": threads,
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _commit() -> str:
    root = Path(__file__).parent
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=root, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def _hardware(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    from fastdet import _C

    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {_C.build_info()['cpu_kernels']} kernels"


def _versions() -> dict[str, str]:
    """Of torch and of the peers that are installed."""
    peers = {name: version(name) for name in ("mmcv", "mmdet") if find_spec(name) is not None}
    return {"torch": torch.__version__, "torchvision": torchvision.__version__, **peers}
