"""What runs engines, against a library that is made up. No engine runs here, and no GPU."""

import hashlib
import inspect
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from fastdet.deploy import DeployedDetector, load
from fastdet.deploy.engine_runtime import Engine, engine_session, read_record
from fastdet.deploy.metadata import Metadata
from fastdet.deploy.slots import SlotSession
from fastdet.utils.errors import CheckpointError, EnvironmentProblem
from tests.deploy import stub_tensorrt

FACTS = {"library": "tensorrt 10.13.3", "capability": "any", "gpu": "Some GPU"}
METADATA = Metadata(
    classes=("a", "b", "c"), transforms=(), shape=(4, 4), layout="hwc", whole_images=False, pad_divisor=1,
    mask_threshold=0.5, candidates=1, rounds=1,
)  # fmt: skip


@pytest.fixture
def engine_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An engine of the made-up library, with its record."""
    monkeypatch.setitem(sys.modules, "tensorrt", stub_tensorrt)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: types.SimpleNamespace(cuda_stream=77))
    file = tmp_path / "model.engine"
    file.write_bytes(b"an engine")
    write_record(file)
    return file


def write_record(file: Path, **changes: object) -> None:
    facts = {**FACTS, "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), **changes}
    record = {"metadata": json.loads(METADATA.to_json()), "engine": facts}
    file.with_suffix(".json").write_text(json.dumps(record))


def session_of(file: Path) -> tuple[Engine, SlotSession]:
    """What `engine_session` makes, in the memory of the CPU."""
    metadata, facts = read_record(str(file))
    engine = Engine(str(file), metadata, facts, "no GPU")
    outputs = list(engine.outputs)
    cpu = torch.device("cpu")
    return engine, SlotSession(engine.name, engine.prepare, outputs, cpu, batches=engine.batches)


def test_an_engine_is_called_as_its_library_wants(engine_file: Path) -> None:
    engine, session = session_of(engine_file)
    assert (engine.name, engine.batches) == ("tensorrt 10.13.3 on no GPU", (2, 4))
    deployed = DeployedDetector(session, METADATA, "model.engine")
    pixels = torch.full((5, 3, 4, 4), 51, dtype=torch.uint8)
    sizes = torch.tensor([[4, 4], [4, 3], [2, 4], [1, 1], [3, 3]])
    outputs = deployed.run(pixels, sizes)
    assert list(outputs) == ["boxes", "scores", "labels", "num", "exact"]
    assert np.array_equal(outputs["boxes"][:, 0, ::2], sizes.numpy())
    assert outputs["scores"] == pytest.approx(0.2)
    assert outputs["labels"].tolist() == [[0, 1, 2]] * 5
    assert (outputs["labels"].dtype, outputs["num"].tolist()) == (np.int32, [2] * 5)
    deployed.run(pixels, sizes)
    contexts = engine._engine.contexts
    assert [context.shapes["images"][0] for context in contexts] == [4, 2]  # one context for each batch size
    assert [context.streams for context in contexts] == [[77, 77]] * 2


def test_pictures_without_certificate_go_to_the_redo(engine_file: Path) -> None:
    _, session = session_of(engine_file)

    class Redo:
        def run(self, images: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
            outputs = session.run(images + 1, sizes)
            return {**outputs, "scores": np.full_like(outputs["scores"], 0.75)}

    deployed = DeployedDetector(session, METADATA, "model.engine", Redo())
    pixels = torch.full((3, 3, 4, 4), 51, dtype=torch.uint8)
    pixels[1] = 9
    outputs = deployed.run(pixels, torch.full((3, 2), 4))
    assert outputs["exact"].tolist() == [1, 0, 1]
    proven = deployed.proven(outputs, pixels, torch.full((3, 2), 4))
    assert proven["exact"].tolist() == [1, 1, 1]
    assert proven["scores"][:, 0] == pytest.approx([0.2, 0.75, 0.2])
    assert deployed.redone == 1


def test_an_engine_of_another_version_is_refused(engine_file: Path) -> None:
    engine_file.write_bytes(b"another engine")
    write_record(engine_file, library="tensorrt 10.9.0")
    with pytest.raises(CheckpointError, match=r"built with tensorrt 10\.9\.0 for Some GPU.*10\.13\.3.*not compatible"):
        session_of(engine_file)


def test_an_engine_without_its_record_is_refused(engine_file: Path) -> None:
    engine_file.with_suffix(".json").unlink()
    with pytest.raises(CheckpointError, match=r"model\.json.*is missing"):
        load(engine_file, device="cpu")
    engine_file.with_suffix(".json").write_text("{}")
    with pytest.raises(CheckpointError, match="holds no record"):
        load(engine_file, device="cpu")


def test_a_record_of_another_engine_is_refused(engine_file: Path) -> None:
    engine_file.write_bytes(b"an engine, changed")
    with pytest.raises(CheckpointError, match=r"not the engine that model\.json tells of"):
        load(engine_file, device="cpu")


def test_foreign_tensors_are_refused(engine_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = dict(stub_tensorrt.TENSORS)
    del tensors["exact"]
    monkeypatch.setattr(stub_tensorrt, "TENSORS", tensors)
    with pytest.raises(CheckpointError, match="no engine of fastdet's"):
        session_of(engine_file)


def test_engines_do_not_run_on_the_cpu(engine_file: Path) -> None:
    metadata, facts = read_record(str(engine_file))
    with pytest.raises(EnvironmentProblem, match="engines run on a GPU"):
        engine_session(str(engine_file), metadata, facts, torch.device("cpu"))


@pytest.mark.parametrize("name", ["Runtime", "ICudaEngine", "IExecutionContext", "TensorIOMode", "DataType"])
def test_the_made_up_library_has_the_names_of_the_real_one(name: str) -> None:
    real = getattr(pytest.importorskip("tensorrt_rtx"), name)
    stub = getattr(stub_tensorrt, name)
    for member in [m for m in vars(stub) if not m.startswith("_") and not m.isupper()]:
        assert hasattr(real, member), f"{name}.{member}"
        if inspect.isfunction(vars(stub)[member]):
            arguments = [p for p in inspect.signature(vars(stub)[member]).parameters if p != "self"]
            text = getattr(real, member).__doc__ or ""
            assert all(f"{argument}:" in text for argument in arguments), (member, text)
