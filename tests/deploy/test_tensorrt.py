"""Engines: what the library makes of an exported file, and what is refused. No engine runs here."""

import json
import types
from pathlib import Path

import onnx
import pytest

from fastdet.deploy import tensorrt
from fastdet.deploy.onnx_file import read_metadata
from fastdet.deploy.tensorrt import EngineOptions, build_engine, import_library, tensors_of
from fastdet.deploy.triton import outputs_of, write_repository
from fastdet.export import main
from fastdet.utils.errors import EnvironmentProblem, FastdetError
from tests.deploy.conftest import CONFIG, Exported


def test_parser_sees_the_names_shapes_and_types(exported: Exported) -> None:
    pytest.importorskip("tensorrt_rtx")
    assert tensors_of(str(exported.file), "tensorrt_rtx") == {
        "images": ("input", (-1, 128, 128, 3), "UINT8"),
        "sizes": ("input", (-1, 2), "INT32"),
        "boxes": ("output", (-1, 50, 4), "FLOAT"),
        "scores": ("output", (-1, 50), "FLOAT"),
        "labels": ("output", (-1, 50), "INT32"),
        "num": ("output", (-1,), "INT32"),
        "exact": ("output", (-1,), "INT32"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("capability", ["SM80", "SM89", "SM120"])
def test_an_engine_is_built_without_a_gpu(exported: Exported, capability: str) -> None:
    pytest.importorskip("tensorrt_rtx")
    metadata = read_metadata(onnx.load(exported.file), exported.file.name)
    options = EngineOptions(backend="tensorrt_rtx", batch=(1, 2, 4), capability=capability)
    assert len(build_engine(str(exported.file), metadata, options)) > 1_000_000


def test_an_unknown_gpu_is_refused(exported: Exported) -> None:
    pytest.importorskip("tensorrt_rtx")
    metadata = read_metadata(onnx.load(exported.file), exported.file.name)
    with pytest.raises(FastdetError, match=r"'SM90' is none that this library builds for: SM75, SM80"):
        build_engine(str(exported.file), metadata, EngineOptions(backend="tensorrt_rtx", capability="SM90"))


def test_batch_goes_upwards() -> None:
    with pytest.raises(FastdetError, match="least, the usual and the greatest"):
        EngineOptions(backend="tensorrt_rtx", batch=(4, 2, 8))


def test_an_old_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    old = types.SimpleNamespace(__version__="10.8.0.43")
    monkeypatch.setattr(tensorrt.importlib, "import_module", lambda name: old)
    with pytest.raises(EnvironmentProblem, match=r"tensorrt 10\.8\.0\.43 is too old: fastdet needs 10\.9 or later"):
        import_library("tensorrt")


def test_a_missing_library_ends_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(tensorrt.importlib, "import_module", missing)
    target = tmp_path / "model.engine"
    arguments = [str(CONFIG), "--backend", "tensorrt", "--shape", "128", "128", "--output", str(target)]
    assert main(arguments) == 3
    assert "pip install tensorrt" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_triton_repository_describes_the_file(exported: Exported, tmp_path: Path) -> None:
    model = onnx.load(exported.file)
    metadata = read_metadata(model, exported.file.name)
    folder = write_repository(tmp_path, exported.file, outputs_of(model), metadata, name="shapes", max_batch=8)
    assert folder == tmp_path / "shapes"
    assert (folder / "1" / "model.onnx").read_bytes() == exported.file.read_bytes()
    assert (folder / "labels.txt").read_text().split() == ["rectangle", "circle", "triangle"]
    config = (folder / "config.pbtxt").read_text()
    assert 'platform: "onnxruntime_onnx"' in config
    assert '{ name: "images", data_type: TYPE_UINT8, dims: [128, 128, 3] }' in config
    assert '{ name: "boxes", data_type: TYPE_FP32, dims: [50, 4] }' in config
    assert '{ name: "num", data_type: TYPE_INT32, dims: [1], reshape { shape: [] } }' in config
    assert config.count("[") == config.count("]")


def test_record_says_that_an_engine_is_unverified(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorrt_rtx")
    from fastdet.deploy import onnx_file

    monkeypatch.setattr(onnx_file, "export_model", lambda *_: onnx.load(exported.file))
    monkeypatch.setattr(tensorrt, "build_engine", lambda *_: b"engine")
    target = tmp_path / "model.engine"
    arguments = [str(CONFIG), str(exported.checkpoint), "--backend", "tensorrt_rtx", "--shape", "128", "128"]
    repository = ["--triton", str(tmp_path / "models")]
    assert main([*arguments, "--verify", "0", "--capability", "SM89", "--output", str(target), *repository]) == 0
    record = json.loads((tmp_path / "model.json").read_text())
    assert record["engine"]["verification"] == "unverified"
    assert record["engine"]["bytes"] == 6
    assert "unverified" in capsys.readouterr().err
    assert (tmp_path / "models" / "model" / "1" / "model.plan").read_bytes() == b"engine"
