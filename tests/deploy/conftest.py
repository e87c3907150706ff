"""The generated set at 128 pixels, and one exported detector that many tests look at."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import nn

from fastdet.build import build_detector
from fastdet.compat import load_experiment
from fastdet.data.shapes import ShapesConfig, write_shapes
from tests.golden import recipe

if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime", "onnxscript")):
    collect_ignore_glob = ["test_*.py"]
CONFIG = Path(__file__).parent / "configs" / "retinanet.py"


class Exported(NamedTuple):
    """An exported detector beside its checkpoint and itself."""

    file: Path
    checkpoint: Path
    detector: nn.Module
    code: int


@pytest.fixture(scope="session", autouse=True)
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The set's folder, which the configs find through $SHAPES_ROOT."""
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, ShapesConfig(num_train=2, num_val=5, image_size=128, min_side=16, max_side=60))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHAPES_ROOT", str(folder))
        yield folder


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> Exported:
    """A RetinaNet, exported by the command."""
    from fastdet.export import main

    folder = tmp_path_factory.mktemp("exported")
    detector = build_detector(load_experiment(CONFIG))
    recipe.fill(detector)
    checkpoint = folder / "retinanet.pth"
    torch.save({"state_dict": detector.state_dict(), "meta": {}}, checkpoint)
    file = folder / "retinanet.onnx"
    code = main([str(CONFIG), str(checkpoint), "--shape", "128", "128", "--output", str(file), "--verify", "4"])
    return Exported(file, checkpoint, detector.eval(), code)
