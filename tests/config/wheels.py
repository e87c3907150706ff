"""The configs that MMDetection's wheels ship, unpacked for tests."""

import zipfile
from pathlib import Path

import pytest

WHEELS = Path(__file__).resolve().parents[2] / ".wheels"
CONFIGS = "mmdet/.mim/configs/"


def unpack_configs(release: str, folder: Path) -> Path:
    """The folder with the configs of that release; skips the test where the wheel is missing.

    The wheels are fetched by `pip download --no-deps mmdet==3.3.0 -d .wheels` (and 2.28.2).
    """
    wheels = sorted(WHEELS.glob(f"mmdet-{release}*.whl"))
    if not wheels:
        pytest.skip(f"no mmdet-{release}*.whl in {WHEELS}")
    with zipfile.ZipFile(wheels[0]) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith(CONFIGS)])
    return folder / CONFIGS
