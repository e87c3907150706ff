"""`fastdet export`: the file, its record, and what runs it."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from fastdet import test as test_command
from fastdet.api import init_detector
from fastdet.compat import load_experiment
from fastdet.deploy import BucketedDetector, load
from fastdet.deploy.metadata import Metadata
from fastdet.deploy.verify import Comparison, Limits
from fastdet.export import main
from fastdet.exporting import class_names
from fastdet.proving import Proof
from fastdet.utils.errors import CheckpointError, DataError
from tests.deploy.conftest import CONFIG, Exported


def test_command_proves_the_file(exported: Exported) -> None:
    record = json.loads(exported.file.with_suffix(".json").read_text())
    assert exported.code == 0
    assert record["verification"]["holds"]
    assert record["verification"]["matched"] == record["verification"]["expected"] > 100
    assert record["verification"]["images"] == 6  # four of the set, an empty one, a crowd
    ap = record["verification"]["ap"]
    assert ap["torch"] == pytest.approx(ap["file"], abs=1e-4)
    assert 0 <= ap["torch"] <= 1
    assert record["bytes"] == exported.file.stat().st_size


def test_file_holds_nodes_of_its_own_with_bodies(exported: Exported) -> None:
    model = onnx.load(exported.file)
    assert {node.op_type for node in model.graph.node if node.domain == "fastdet"} == {"nms_padded"}
    assert [(f.domain, f.name) for f in model.functions] == [("fastdet", "nms_padded")]
    outputs = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.output}
    one, rows = ["batch"], ["batch", 50]
    assert outputs == {"boxes": [*rows, 4], "scores": rows, "labels": rows, "num": one, "exact": one}
    assert str(Path.cwd()) not in str(model)


def test_file_alone_predicts_what_the_checkpoint_does(exported: Exported, shapes: Path) -> None:
    pictures = sorted((shapes / "val").iterdir())[:3]
    deployed = load(exported.file)
    assert deployed.classes == ("rectangle", "circle", "triangle")
    eager = init_detector(CONFIG, exported.checkpoint, device="cpu")
    for own, other in zip(deployed.predict(pictures, batch_size=2), eager.predict(pictures), strict=True):
        assert own.meta.path == other.meta.path
        torch.testing.assert_close(own.pred_instances.bboxes, other.pred_instances.bboxes, atol=1e-2, rtol=0)
        torch.testing.assert_close(own.pred_instances.scores, other.pred_instances.scores, atol=1e-4, rtol=0)
        assert torch.equal(own.pred_instances.labels, other.pred_instances.labels)


def test_test_command_scores_the_file_as_the_checkpoint(exported: Exported, tmp_path: Path) -> None:
    values = []
    for name, weights in (("file", exported.file), ("checkpoint", exported.checkpoint)):
        folder = tmp_path / name
        assert test_command.main([str(CONFIG), str(weights), "--work-dir", str(folder)]) == 0
        (metrics,) = (json.loads(file.read_text()) for file in folder.glob("*/*.json"))
        values.append(metrics["coco/bbox_mAP"])
    assert values[0] == pytest.approx(values[1], abs=1e-3)


def test_a_larger_picture_is_refused(exported: Exported) -> None:
    deployed = load(exported.file)
    with pytest.raises(DataError, match="--shape 160 128"):
        deployed.run(torch.zeros(1, 3, 160, 128, dtype=torch.uint8), torch.tensor([[160, 128]]))


def test_other_files_are_refused(exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no file"):
        load(tmp_path / "none.onnx")
    (tmp_path / "torn.onnx").write_bytes(exported.file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="torn"):
        load(tmp_path / "torn.onnx")
    foreign = onnx.load(exported.file)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(CheckpointError, match="not an export of fastdet"):
        load(tmp_path / "foreign.onnx")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shape", "100", "128"], "multiples of 32; the next ones are 128 128"),
        (["--shape", "128", "128", "--output", "model.engine"], "must end in .onnx for --backend onnx"),
        (["--shape", "128", "128", "--precision", "int8"], "give a folder of typical pictures: --calibration DIR"),
        (["--shape", "128", "128", "--precision", "int8", "--calibration", "none"], "--calibration none: no pictures"),
        (["--shape", "128", "128", "--calibration", "none"], "--calibration is for --precision int8, not fp32"),
    ],
)
def test_bad_input_is_one_message(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "model.onnx"
    assert main([str(CONFIG), "--output", str(target), *arguments]) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_another_config_is_refused(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(CONFIG), str(exported.checkpoint), "--shape", "128", "128", "--output", str(tmp_path / "m.onnx")]
    assert main([*arguments, "--cfg-options", "model.bbox_head.num_classes=5"]) == 1
    assert "its head is for another number of classes" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_detector_that_torch_cannot_trace_is_refused(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def untraceable(*arguments: object, **options: object) -> None:
        raise RuntimeError("a size depends on values\nand much more")

    monkeypatch.setattr(torch.export, "export", untraceable)
    arguments = [str(CONFIG), str(exported.checkpoint), "--shape", "128", "128", "--output", str(tmp_path / "m.onnx")]
    assert main([*arguments, "--verify", "0"]) == 1
    assert "error: this detector cannot be exported: a size depends on values\n" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_int8_is_calibrated_with_pictures_of_a_folder(
    exported: Exported, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastdet.deploy import onnx_file

    monkeypatch.setattr(onnx_file, "export_model", lambda *_: onnx.load(exported.file))
    target = tmp_path / "int8.onnx"
    arguments = [str(CONFIG), str(exported.checkpoint), "--shape", "128", "128", "--output", str(target)]
    calibration = ["--precision", "int8", "--calibration", str(shapes / "val"), "--calibration-pictures", "3"]
    assert main([*arguments, *calibration, "--verify", "0"]) == 0
    kinds = [node.op_type for node in onnx.load(target).graph.node]
    assert kinds.count("QuantizeLinear") > 20
    assert len(load(target).predict([sorted((shapes / "val").iterdir())[0]])[0].pred_instances.scores) > 0


def test_bfloat16_is_unverified(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fastdet.deploy import onnx_file

    monkeypatch.setattr(onnx_file, "export_model", lambda *_: onnx.load(exported.file))
    target = tmp_path / "bf16.onnx"
    arguments = [str(CONFIG), str(exported.checkpoint), "--shape", "128", "128", "--output", str(target)]
    assert main([*arguments, "--precision", "bf16"]) == 0
    assert "onnxruntime has no bfloat16 layers on the CPU: the file is unverified" in capsys.readouterr().err
    record = json.loads(target.with_suffix(".json").read_text())
    assert record["verification"] == "not run"
    assert record["metadata"]["precision"] == "bf16"


def test_a_wrong_graph_is_removed(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fastdet.deploy import onnx_file, runtime

    model = onnx.load(exported.file)
    monkeypatch.setattr(onnx_file, "export_model", lambda *_: model)
    right = runtime.OnnxSession.run

    def shifted(self: runtime.OnnxSession, images: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        outputs = right(self, images, sizes)
        return {**outputs, "boxes": outputs["boxes"] + 1}

    monkeypatch.setattr(runtime.OnnxSession, "run", shifted)
    target = tmp_path / "wrong.onnx"
    arguments = [str(CONFIG), str(exported.checkpoint), "--shape", "128", "128", "--output", str(target)]
    assert main([*arguments, "--verify", "1"]) == 4
    assert not target.exists()
    assert json.loads(target.with_suffix(".json").read_text())["verification"]["holds"] is False
    assert "does not find the same" in capsys.readouterr().err


def test_each_shape_gets_a_file_of_its_own(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastdet.deploy import onnx_file

    def same(detector: object, graph: object, metadata: Metadata) -> onnx.ModelProto:
        model = onnx.load(exported.file)
        onnx_file.set_metadata(model, metadata)
        return model

    monkeypatch.setattr(onnx_file, "export_model", same)
    arguments = [str(CONFIG), str(exported.checkpoint), "--output", str(tmp_path / "model.onnx"), "--verify", "0"]
    assert main([*arguments, "--shape", "128", "96", "--shape", "64", "128", "--shape", "128", "96"]) == 0
    assert sorted(file.name for file in tmp_path.glob("*.onnx")) == ["model-128x96.onnx", "model-64x128.onnx"]
    several = load(tmp_path)
    assert isinstance(several, BucketedDetector)
    assert [bucket.shape for bucket in several.buckets] == [(64, 128), (128, 96)]


def test_less_ap_is_no_proof() -> None:
    equal = Comparison(
        images=1, expected=2, found=2, matched=2, box_error=0.0, score_error=0.0, mask_error=0.0, inexact=0
    )
    for lost, holds in ((0.001, True), (-0.1, True), (0.003, False)):
        proof = Proof(runtime="x", comparison=equal, limits=Limits(), ap=(0.5, 0.5 - lost))
        assert proof.holds == holds
        assert proof.to_dict()["ap"]["difference"] == pytest.approx(-lost)


def test_a_proof_of_pictures_in_which_nothing_was_found_says_so() -> None:
    for found in (0, 1):
        comparison = Comparison(
            images=2,
            expected=found,
            found=found,
            matched=found,
            box_error=0.0,
            score_error=0.0,
            mask_error=0.0,
            inexact=0,
        )
        text = str(Proof(runtime="x", comparison=comparison, limits=Limits(), ap=None))
        assert ("warning: neither found anything" in text) == (found == 0)


def test_predict_command_takes_the_file(exported: Exported, shapes: Path, tmp_path: Path) -> None:
    from fastdet.predict import main as predict

    arguments = [str(shapes / "val"), "--engine", str(exported.file), "--out-dir", str(tmp_path), "--no-save-vis"]
    assert predict([*arguments, "--batch-size", "2"]) == 0
    assert len(list((tmp_path / "preds").glob("*.json"))) == 5


def test_a_detector_is_exported_without_its_data(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHAPES_ROOT", str(tmp_path / "nowhere"))
    arguments = [str(CONFIG), str(exported.checkpoint), "--backend", "torch", "--shape", "64", "64", "--verify", "1"]
    assert main([*arguments, "--output", str(tmp_path / "a.pt2")]) == 0
    assert "warning: drawn pictures are compared, not those of the test set" in capsys.readouterr().err
    assert load(tmp_path / "a.pt2").classes == ("rectangle", "circle", "triangle")  # of the config


def test_class_names_that_nothing_says_are_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHAPES_ROOT", str(tmp_path / "nowhere"))
    assert class_names(load_experiment(CONFIG)) == ()
    said = capsys.readouterr().err
    assert "warning: the file has numbers for class names" in said
    assert "nowhere/annotations/instances_val.json" in said
    assert "metainfo.classes" in said
