"""The example of docs/coming_from_mmdetection.md: parts of the user's own in every place, trained and used."""

import re
from pathlib import Path

import pytest
import torch

import fastdet as package
from fastdet.compat.checkpoints import load_checkpoint
from tests.integration.commands import ROOT, Ended, fastdet

PAGE = ROOT / "docs" / "coming_from_mmdetection.md"
SPOILED_NAME = "PlainNett"


@pytest.fixture(scope="module")
def folder(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two files of the page, the set, and the shipped configs that they start from."""
    place = tmp_path_factory.mktemp("own")
    for text in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        found = re.match(r'"""(my_\w+\.py): ', text)
        if found:
            (place / found[1]).write_text(text, encoding="utf-8")
    (place / "data").mkdir()
    (place / "data" / "shapes").symlink_to(shapes)
    (place / "configs").symlink_to(ROOT / "configs")
    return place


@pytest.fixture(scope="module")
def trained(folder: Path) -> Ended:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return fastdet("train", "my_config.py", "--work-dir", "work")


def test_own_parts_are_trained(trained: Ended, folder: Path) -> None:
    assert trained.code == 0, trained.err
    losses = [float(line) for line in (folder / "work" / "losses.txt").read_text().split()]
    assert len(losses) == 4  # eight of the sixteen pictures, four a batch, two epochs
    assert losses[-1] < losses[0]
    assert "bbox_head.cls.weight" in load_checkpoint(folder / "work" / "epoch_2.pth").state_dict


def test_own_parts_are_found_from_the_checkpoint_alone(
    trained: Ended, folder: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    detector = package.init_detector(checkpoint="work/epoch_2.pth", device="cpu")
    assert type(detector.module.backbone).__name__ == "PlainNet"
    assert detector.classes == ("rectangle", "circle", "triangle")
    again = package.init_detector("my_config.py", "work/epoch_2.pth", device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(detector.module.parameters(), again.module.parameters(), strict=True))


def test_a_misspelt_part_of_ones_own_is_named_with_its_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    text = (folder / "my_config.py").read_text()
    line = next(i for i, row in enumerate(text.splitlines(), 1) if "PlainNet" in row)
    (folder / "typo.py").write_text(text.replace("PlainNet", SPOILED_NAME))
    ended = fastdet("train", "typo.py", "--work-dir", "other", "--dry-run")
    assert ended.code == 1
    assert f"'{SPOILED_NAME}' is not registered as a backbone (asked in" in ended.err
    assert f"typo.py:{line})" in ended.err
    assert "did you mean 'PlainNet'?" in ended.err
