"""The `torch` backend: a program file that finds what the detector finds, here on the CPU."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fastdet import test as test_command
from fastdet.deploy import DeployedDetector, load, slots
from fastdet.deploy.graph import GraphOptions
from fastdet.deploy.precision import HALF
from fastdet.deploy.slots import Field, SlotSession, pack, unpack
from fastdet.deploy.torch_backend import export_torch, fold_batch_norm, read_program, torch_session
from fastdet.deploy.verify import Limits, compare, limits_of
from fastdet.export import main
from fastdet.structures import Batch, Detections
from fastdet.utils.errors import CheckpointError
from tests.deploy.conftest import CONFIG, Exported
from tests.deploy.families import small
from tests.deploy.test_runtime import CHANNELS, described, pictures
from tests.golden.configs import two_stage
from tests.golden.harness import build_filled


@pytest.fixture(scope="module")
def program(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The detector of `exported`, written by the command."""
    file = tmp_path_factory.mktemp("program") / "model.pt2"
    arguments = [str(CONFIG), str(exported.checkpoint), "--backend", "torch", "--shape", "128", "128"]
    assert main([*arguments, "--output", str(file), "--verify", "4"]) == 0
    return file


def test_command_proves_the_program(program: Path) -> None:
    record = json.loads(program.with_suffix(".json").read_text())
    assert record["verification"]["holds"]
    assert record["verification"]["runtime"] == f"torch {torch.__version__} on CPU"
    assert record["verification"]["inexact"] == 0
    assert record["verification"]["matched"] == record["verification"]["expected"] > 100


def test_weights_keep_the_layout_that_tensor_cores_like(program: Path) -> None:
    loaded, metadata = read_program(str(program))
    assert metadata.classes == ("rectangle", "circle", "triangle")
    weights = [w for w in loaded.state_dict.values() if w.dim() == 4 and min(w.shape[1:]) > 1]
    assert len(weights) > 10
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)


WITHOUT_ONNX = """
import sys
sys.modules.update(dict.fromkeys(("onnx", "onnxruntime", "onnxscript")))  # importing them is an error
import numpy as np, torch
from fastdet.build import load_exported
from fastdet.deploy import torch_backend  # which writes programs
detector = load_exported(sys.argv[1], "cpu")
print(len(detector.predict([np.zeros((100, 90, 3), np.uint8)])))
"""


def test_program_needs_no_onnx(program: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_ONNX, str(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1\n"


def test_program_scores_as_the_checkpoint(program: Path, exported: Exported, tmp_path: Path) -> None:
    values = []
    for name, weights in (("file", program), ("checkpoint", exported.checkpoint)):
        folder = tmp_path / name
        arguments = [str(CONFIG), str(weights), "--work-dir", str(folder), "--device", "cpu"]
        assert test_command.main(arguments) == 0
        (metrics,) = (json.loads(file.read_text()) for file in folder.glob("*/*.json"))
        values.append(metrics["coco/bbox_mAP"])
    assert values[0] == pytest.approx(values[1], abs=1e-3)


@pytest.mark.parametrize(("family", "precision"), [("faster_rcnn", "fp16"), ("retinanet", "bf16")])
def test_half_precision_finds_nearly_the_same(family: str, precision: str) -> None:
    detector = small(family, thin=8)
    options = GraphOptions(shape=(64, 64))
    program = export_torch(detector, options, precision)
    assert not [node for node in program.graph.nodes if node.target is torch.ops.aten.batch_norm.default]
    weights = {w.dtype for w in program.state_dict.values() if w.dim() == 4}
    assert weights == {HALF[precision]}
    deployed = DeployedDetector(
        torch_session(program, described(options), torch.device("cpu")), described(options), "m"
    )
    batch = Batch(*pictures(64), None, ())
    number = deployed.predict_batch(batch).boxes.shape[1]
    own = detector.predict(batch)  # type: ignore[operator]
    own = Detections(*(part[:, :number] for part in own[:3]), own.count.clamp(max=number))
    outcome = compare([own], [deployed.predict_batch(batch)], limits_of(precision))
    assert outcome.expected > 20
    assert outcome.holds(limits_of(precision)), outcome
    assert outcome.score_error > 0


@pytest.mark.slow
def test_masks_and_two_stages_are_the_detectors_own() -> None:
    model = two_stage.mask_rcnn(18, CHANNELS)
    model["test_cfg"]["rpn"].update(nms_pre=300, max_per_img=60)
    detector = build_filled(model).eval()
    options = GraphOptions(shape=(128, 128))
    program = export_torch(detector, options)
    assert not [node for node in program.graph.nodes if node.target is torch.ops.aten.batch_norm.default]
    session = torch_session(program, described(options), torch.device("cpu"))
    deployed = DeployedDetector(session, described(options), "model")
    pixels, sizes = pictures(128)
    for rows in (slice(0, 3), slice(1, 2)):
        batch = Batch(pixels[rows], sizes[rows], None, ())
        found, own = deployed.predict_batch(batch), detector.predict(batch)
        outcome = compare([own], [found], Limits())
        assert outcome.expected > 10
        assert outcome.holds(Limits()), outcome
        assert found.masks is not None


def test_batch_normalisation_is_folded() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5)
    )
    for part in module:
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
    pixels = torch.rand(2, 3, 8, 8)
    expected = module.eval()(pixels)
    program = torch.export.export(module, (pixels,))
    assert fold_batch_norm(program) == 2
    assert not [node for node in program.graph.nodes if node.target is torch.ops.aten.batch_norm.default]
    torch.testing.assert_close(program.module()(pixels), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(module(pixels), expected, atol=0, rtol=0)


def test_a_layer_that_feeds_two_others_keeps_its_normalisation() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return self.norm(y) + y

    assert fold_batch_norm(torch.export.export(Twice().eval(), (torch.rand(1, 1, 2, 2),))) == 0


def test_words_hold_every_bit() -> None:
    values = [torch.tensor([[0.1, -2.0]]), torch.tensor([[7, -1, 2**31 - 1]], dtype=torch.int32)]
    values.append(torch.tensor([5], dtype=torch.int32))
    fields = [Field("a", (2,), torch.float32), Field("b", (3,), torch.int32), Field("c", (), torch.int32)]
    words = pack(values)
    assert words.shape == (1, 6)
    for name, value in zip("abc", values, strict=True):
        found = unpack(words.numpy(), fields)[name]
        assert np.array_equal(found, value.numpy())


def test_batches_outside_of_the_profile_are_cut_and_filled() -> None:
    seen: list[int] = []

    def prepare(images: torch.Tensor, sizes: torch.Tensor):  # type: ignore[no-untyped-def]
        def launch() -> list[torch.Tensor]:
            seen.append(len(images))
            return [images.flatten(1).float().sum(1), sizes.clone()]

        return launch

    session = SlotSession("none", prepare, ("sum", "sizes"), torch.device("cpu"), batches=(2, 4))
    images = np.arange(5, dtype=np.uint8)[:, None, None, None].repeat(2, 1).repeat(2, 2).repeat(3, 3)
    sizes = np.arange(10, dtype=np.int32).reshape(5, 2)
    outputs = session.run(images, sizes)
    assert seen == [4, 2]
    assert outputs["sum"].tolist() == [0, 12, 24, 36, 48]
    assert np.array_equal(outputs["sizes"], sizes)


def test_work_that_cannot_be_captured_runs_without_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    right, asked = slots.Slot, []

    def refusing(*arguments: object, capture: bool, **options: object) -> slots.Slot:
        asked.append(capture)
        if capture:
            raise slots.CaptureError("operation not permitted when stream is capturing")
        return right(*arguments, capture=False)  # type: ignore[arg-type]

    monkeypatch.setattr(slots, "Slot", refusing)
    session = SlotSession("torch", lambda images, sizes: lambda: [sizes.clone()], ("sizes",), torch.device("cpu"))
    images, sizes = np.zeros((1, 2, 2, 3), np.uint8), np.array([[1, 2]], np.int32)
    with pytest.warns(UserWarning, match="torch runs without a CUDA graph, so slower: operation not permitted"):
        assert session.run(images, sizes)["sizes"].tolist() == [[1, 2]]
    session.run(np.repeat(images, 2, 0), np.repeat(sizes, 2, 0))
    assert asked == [True, False, False]


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "torn.pt2").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"torn\.pt2 is damaged"):
        load(tmp_path / "torn.pt2")
    foreign = torch.export.export(nn.Linear(1, 1), (torch.rand(1, 1),))
    torch.export.save(foreign, tmp_path / "foreign.pt2")
    with pytest.raises(CheckpointError, match="not an export of fastdet"):
        load(tmp_path / "foreign.pt2")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_captured_graphs_find_the_same(program: Path, exported: Exported) -> None:
    deployed = load(program, device="cuda")
    assert isinstance(deployed, DeployedDetector)
    pixels, sizes = pictures(128)
    for rows in (slice(0, 3), slice(1, 2), slice(0, 3)):
        batch = Batch(pixels[rows], sizes[rows], None, ())
        limits = Limits(matched=0.995, boxes=0.1, scores=1e-3)
        outcome = compare([exported.detector.predict(batch)], [deployed.predict_batch(batch)], limits)
        assert outcome.holds(limits), outcome
