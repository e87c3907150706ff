"""Names of weights become files: tables, caches, and messages for what is missing."""

from pathlib import Path

import pytest

from fastdet.compat.checkpoints import resolve
from fastdet.compat.checkpoints.weight_files import OLDER_FILES, URLS
from fastdet.utils.errors import CheckpointError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without network and with empty caches."""
    monkeypatch.setenv("FASTDET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("FASTDET_OFFLINE", "1")
    (tmp_path / "home" / "checkpoints").mkdir(parents=True)
    (tmp_path / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("torchvision://resnet50", "resnet50-0676ba61.pth"),
        ("modelzoo://resnet50", "resnet50-0676ba61.pth"),
        ("open-mmlab://detectron2/resnet50_caffe", "resnet50_msra-5891d200.pth"),
        ("open-mmlab://resnet50_caffe_bgr", "resnet50_msra-5891d200.pth"),
        ("https://example.org/weights/mine-0123abcd.pth?x=1", "mine-0123abcd.pth"),
    ],
)
def test_names_are_found_in_either_cache(name: str, file: str, home: Path) -> None:
    other = home / "torch" / "hub" / "checkpoints" / file
    other.touch()
    assert resolve(name) == other
    own = home / "home" / "checkpoints" / file
    own.touch()
    assert resolve(name) == own


def test_the_same_weights_under_their_older_name_serve_too(home: Path) -> None:
    older = home / "torch" / "hub" / "checkpoints" / "resnet50-19c8e357.pth"
    older.touch()
    assert resolve("torchvision://resnet50") == older


def test_what_is_missing_is_named_with_folders_and_the_switch(home: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        resolve("torchvision://resnet50", asked_by="model.backbone.init_cfg")
    assert str(caught.value) == (
        "'torchvision://resnet50' is not cached and cannot be downloaded: FASTDET_OFFLINE is set\n"
        f"  put resnet50-0676ba61.pth into {home}/home/checkpoints or {home}/torch/hub/checkpoints\n"
        "  or start without it: model.backbone.init_cfg=None\n"
        "  it is published at https://download.pytorch.org/models/resnet50-0676ba61.pth"
    )


def test_unknown_names_bring_close_ones() -> None:
    with pytest.raises(
        CheckpointError, match=r"unknown weights 'torchvision://resnet5'\n  did you mean 'torchvision://"
    ):
        resolve("torchvision://resnet5")


def test_missing_paths_bring_close_files(tmp_path: Path) -> None:
    (tmp_path / "epoch_12.pth").touch()
    with pytest.raises(CheckpointError, match=r"not found: .*epoch_11.pth\n  did you mean '.*epoch_12.pth'"):
        resolve(tmp_path / "epoch_11.pth")
    with pytest.raises(CheckpointError, match=r"is a folder: name the .pth file in it"):
        resolve(tmp_path)
    with pytest.raises(CheckpointError, match="there is no folder"):
        resolve(tmp_path / "nosuch" / "a.pth")


def test_a_bare_file_name_is_looked_up_in_the_cache(home: Path) -> None:
    own = home / "home" / "checkpoints" / "mine.pth"
    own.touch()
    assert resolve("mine.pth") == own


def test_older_files_belong_to_names_of_the_table() -> None:
    files = {url.rpartition("/")[2] for url in URLS.values()}
    assert set(OLDER_FILES) <= files
