"""`fastdet bench export`: the table, and a run on the CPU."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from fastdet.bench import main
from fastdet.benching import Row, spread, table

CONFIG = Path(__file__).parent / "deploy" / "configs" / "retinanet.py"


def test_rows_are_compared_with_torchvision_at_the_same_batch() -> None:
    rows = [
        Row("a", "torchvision", 1, (0.02, 0.5, 0.02)), Row("a", "torch", 1, (0.004, 0.004, 0.1)),
        Row("a", "torch", 8, (0.016,)), Row("a", "tensorrt", 1, reason="not run: engines run on a GPU"),
    ]  # fmt: skip
    assert table(rows).splitlines()[2:] == [
        "| a | 1 | torchvision | 20.00 | 50.0 | 1.00 |",
        "| a | 1 | torch | 4.00 | 250.0 | 5.00 |",
        "| a | 8 | torch | 16.00 | 500.0 |  |",
        "| a | 1 | tensorrt | not run: engines run on a GPU | | |",
    ]


def test_last_layers_spread_their_outputs() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"bbox_head": nn.ModuleDict({"retina_cls": nn.Conv2d(3, 8, 3)})})
    layer = model["bbox_head"]["retina_cls"]
    pixels = torch.rand(1, 3, 20, 20)
    spread(model, lambda: layer(pixels))
    values = layer(pixels).detach()
    assert float(values.mean()) == pytest.approx(-3, abs=1e-3)
    assert float(values.std()) == pytest.approx(1, abs=1e-3)


def test_a_detector_is_timed_in_every_way_that_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.setenv("SHAPES_ROOT", str(tmp_path))
    target = tmp_path / "times.json"
    words = ["--shape", "128", "128", "--rows", "eager", "tensorrt", "--seconds", "0"]
    assert main(["export", str(CONFIG), *words, "--device", "cpu", "--output", str(target)]) == 0
    result = json.loads(target.read_text())
    assert [(row["row"], row["batch"], len(row["seconds"])) for row in result["rows"]] == [
        ("tensorrt", 1, 0), ("eager", 1, 3)
    ]  # fmt: skip
    assert result["rows"][0]["reason"].startswith("not run: engines run on a GPU")
    assert result["shape"] == [128, 128]
    assert "| retinanet | 1 | eager |" in capsys.readouterr().out
