"""`--dynamic-hw`: one file for pictures of several sizes."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto

from fastdet.deploy import DeployedDetector, load
from fastdet.deploy.graph import GraphOptions
from fastdet.deploy.metadata import Metadata
from fastdet.deploy.onnx_file import export_model, read_metadata
from fastdet.deploy.sessions import OnnxSession
from fastdet.deploy.tensorrt import EngineOptions, build_engine, tensors_of
from fastdet.deploy.triton import outputs_of, write_repository
from fastdet.deploy.verify import Limits, compare
from fastdet.export import main
from fastdet.structures import Batch, Detections
from fastdet.utils.errors import DataError, FastdetError
from tests.deploy.conftest import CONFIG, Exported
from tests.deploy.families import pictures, small
from tests.deploy.test_runtime import described

LEAST, USUAL, GREATEST = (64, 64), (96, 64), (128, 160)
SIZES = (LEAST, (96, 160), GREATEST, (128, 64))
KINDS = ("fcos", "yolox", "faster_rcnn")


def check_sizes(detector: torch.nn.Module, deployed: DeployedDetector) -> None:
    """Both find the same in pictures of each size."""
    pixels, _ = pictures(160)
    for height, width in SIZES:
        sizes = torch.tensor([[height, width], [height - 10, width - 7], [height, width - 20]])
        batch = Batch(pixels[:3, :, :height, :width].contiguous(), sizes, None, ())
        with torch.inference_mode():
            own = detector.predict(batch)  # type: ignore[operator]
        found = deployed.predict_batch(batch)
        number = found.boxes.shape[1]
        own = Detections(*(part[:, :number] for part in own[:3]), own.count.clamp(max=number))
        outcome = compare([own], [found], Limits())
        assert outcome.expected > 50
        assert outcome.holds(Limits()), (height, width, outcome)


@pytest.fixture(scope="module")
def dynamic(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The detector of `exported` for several sizes, written by the command."""
    file = tmp_path_factory.mktemp("dynamic") / "model.onnx"
    shapes = [text for shape in (LEAST, USUAL, GREATEST) for text in ("--shape", *map(str, shape))]
    arguments = [str(CONFIG), str(exported.checkpoint), "--dynamic-hw", *shapes, "--output", str(file)]
    assert main([*arguments, "--verify", "2"]) == 0
    return file


def test_command_proves_all_sizes(dynamic: Path, exported: Exported) -> None:
    record = json.loads(dynamic.with_suffix(".json").read_text())
    assert record["verification"]["holds"]
    assert record["verification"]["images"] == 6  # two of the set, an empty one, a crowd of each size
    assert [record["metadata"][name] for name in ("least_shape", "usual_shape", "shape")] == [
        [*LEAST], [*USUAL], [*GREATEST]
    ]  # fmt: skip
    model = onnx.load(dynamic)
    sides = [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert sides == ["batch", "height", "width", 3]
    deployed = load(dynamic)
    assert isinstance(deployed, DeployedDetector)
    check_sizes(exported.detector, deployed)


def test_a_larger_picture_is_refused(dynamic: Path) -> None:
    deployed = load(dynamic)
    with pytest.raises(DataError, match="up to 128 x 160 pixels"):
        deployed.predict_batch(Batch(torch.zeros(1, 3, 160, 128), torch.tensor([[160, 128]]), None, ()))


def test_a_server_is_told_that_sizes_vary(dynamic: Path, tmp_path: Path) -> None:
    model = onnx.load(dynamic)
    metadata = read_metadata(model, dynamic.name)
    folder = write_repository(tmp_path, dynamic, outputs_of(model), metadata, name="shapes", max_batch=8)
    assert '{ name: "images", data_type: TYPE_UINT8, dims: [-1, -1, 3] }' in (folder / "config.pbtxt").read_text()


@pytest.mark.slow
def test_an_engine_takes_all_sizes(dynamic: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    assert tensors_of(str(dynamic), "tensorrt_rtx")["images"] == ("input", (-1, -1, -1, 3), "UINT8")
    metadata = read_metadata(onnx.load(dynamic), dynamic.name)
    options = EngineOptions(backend="tensorrt_rtx", batch=(1, 2, 4), capability="SM89")
    assert len(build_engine(str(dynamic), metadata, options)) > 100_000


def of_family(name: str) -> tuple[torch.nn.Module, ModelProto, Metadata]:
    detector = small(name, thin=8)
    options = GraphOptions(shape=GREATEST, least_shape=LEAST, candidates=3000)
    metadata = described(options, least_shape=LEAST, usual_shape=GREATEST)
    return detector, export_model(detector, options, metadata), metadata


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_each_kind_takes_several_sizes(name: str) -> None:
    detector, model, metadata = of_family(name)
    check_sizes(detector, DeployedDetector(OnnxSession(model.SerializeToString()), metadata, "model"))


@pytest.mark.parametrize(
    ("size", "padded"), [((1, 1), LEAST), ((65, 64), (96, 64)), ((100, 150), (128, 160)), ((128, 160), GREATEST)]
)
def test_pictures_are_padded_to_the_next_size(size: tuple[int, int], padded: tuple[int, int]) -> None:
    options = GraphOptions(shape=GREATEST, least_shape=LEAST)
    assert described(options, least_shape=LEAST, usual_shape=USUAL).padded(*size) == padded
    assert described(GraphOptions(shape=GREATEST)).padded(*size) == GREATEST


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shape", "128", "128", "--shape", "64", "160"], "the least shape (128, 128) is larger than (64, 160)"),
        (["--shape", "128", "100"], "multiples of 32; the next ones are 128 128"),
        (["--shape", "128", "128", "--whole-images"], "--whole-images is for graphs of one size"),
        (["--shape", "128", "128", "--backend", "torch"], "programs of the torch backend have one size"),
        (["--shape", "32", "32"] * 4, "takes the least, the usual and the greatest --shape, not 4"),
    ],
)
def test_bad_input_is_one_message(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suffix = "pt2" if "torch" in arguments else "onnx"
    target = tmp_path / f"model.{suffix}"
    assert main([str(CONFIG), "--dynamic-hw", "--output", str(target), *arguments]) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_detector_whose_graph_needs_one_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def untraceable(*arguments: object, **options: object) -> None:
        raise RuntimeError("a window does not divide the map")

    monkeypatch.setattr(torch.export, "export", untraceable)
    with pytest.raises(FastdetError, match="a window does not divide the map; give --shape for each size"):
        of_family("yolox")


def test_slots_are_kept_by_shape() -> None:
    from fastdet.deploy.slots import SlotSession

    session = SlotSession("s", lambda images, sizes: lambda: [sizes.clone()], ("sizes",), torch.device("cpu"))
    sizes = np.array([[1, 2]], np.int32)
    for height in (2, 4, 2):
        assert session.run(np.zeros((1, height, 2, 3), np.uint8), sizes)["sizes"].tolist() == [[1, 2]]
