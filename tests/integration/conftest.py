"""The generated set at 64 pixels, and one training on it that many tests look at."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from fastdet.data.shapes import ShapesConfig, write_shapes
from tests.integration.commands import TINY, Ended, fastdet, overrides


class Trained(NamedTuple):
    """A finished training: its folder, its last checkpoint, how it ended."""

    work_dir: Path
    checkpoint: Path
    ended: Ended


@pytest.fixture(scope="session", autouse=True)
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The set's folder, which the configs find through $SHAPES_ROOT."""
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, ShapesConfig(num_train=16, num_val=6, image_size=64, min_side=16, max_side=40))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHAPES_ROOT", str(folder))
        yield folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> Trained:
    """Two epochs of the tiny detector; every validation writes its detections to `val.bbox.json`."""
    work_dir = tmp_path_factory.mktemp("trained")
    prefix = f"+val_evaluator.outfile_prefix={work_dir / 'val'}"
    ended = fastdet("train", TINY, "--work-dir", work_dir, *overrides(prefix))
    assert ended.code == 0, ended.err
    return Trained(work_dir, work_dir / "epoch_2.pth", ended)
