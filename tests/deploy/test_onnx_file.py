"""Files are written whole or not at all, with large weights beside them."""

from pathlib import Path

import onnx
import pytest

from fastdet.deploy import load, onnx_file
from fastdet.deploy.onnx_file import save_model
from tests.deploy.conftest import Exported


def test_large_weights_lie_beside_the_file(
    exported: Exported, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, picture = tmp_path / "large.onnx", sorted((shapes / "val").iterdir())[0]
    with monkeypatch.context() as patch:
        patch.setattr(onnx_file, "LARGEST_FILE", 1000)
        for _ in range(2):  # written anew, not added to what is there
            save_model(onnx.load(exported.file), target)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["large.onnx", "large.onnx.data"]
    assert target.stat().st_size < exported.file.stat().st_size / 2
    assert (tmp_path / "large.onnx.data").stat().st_size < exported.file.stat().st_size * 1.2
    own, other = (load(file).predict([picture])[0].pred_instances for file in (exported.file, target))
    assert own.bboxes.tolist() == other.bboxes.tolist()
    save_model(onnx.load(exported.file), target)
    assert [file.name for file in tmp_path.iterdir()] == ["large.onnx"]


def test_a_large_file_that_is_wrong_is_not_left_behind(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.load(exported.file)
    model.graph.node[0].input[0] = "nothing"
    monkeypatch.setattr(onnx_file, "LARGEST_FILE", 1000)
    with pytest.raises(onnx.checker.ValidationError, match="nothing"):
        save_model(model, tmp_path / "wrong.onnx")
    assert list(tmp_path.iterdir()) == []
