"""The check before a training, and the command line around it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from fastdet.data.__main__ import main
from fastdet.data.check import check_coco_file, check_dataset, check_voc_folder
from fastdet.data.datasets import CocoDataset, ConcatDataset, RepeatDataset

CocoSet = Callable[..., tuple[str, str]]


def test_a_sound_set_has_neither_errors_nor_warnings(coco_set: CocoSet) -> None:
    report = check_coco_file(*coco_set(), full=True)
    assert report.ok
    assert not report.warnings
    assert report.counts == {
        "images": 6, "boxes": 4, "crowd": 0, "classes": 2, "images without objects": 3, "images decoded": 6,
    }  # fmt: skip
    assert "check: 0 errors, 0 warnings" in report.text()


def test_missing_images_are_errors(coco_set: CocoSet) -> None:
    ann_file, folder = coco_set()
    for i in (2, 4):
        (Path(folder) / f"{i}.png").unlink()
    report = check_coco_file(ann_file, folder)
    assert report.errors["images that do not exist"].count == 2
    assert "2.png" in report.text()
    assert check_coco_file(ann_file, "/nowhere").errors["images that do not exist"].count == 6


def test_turned_and_resized_and_broken_images_are_errors(coco_set: CocoSet) -> None:
    ann_file, folder = coco_set()
    cv2.imwrite(f"{folder}/0.png", np.zeros((30, 40, 3), np.uint8))
    cv2.imwrite(f"{folder}/1.png", np.zeros((31, 40, 3), np.uint8))
    data = Path(f"{folder}/2.png").read_bytes()
    Path(f"{folder}/2.png").write_bytes(data[:-20])
    report = check_coco_file(ann_file, folder, full=True)
    assert report.errors["images turned by 90 degrees (EXIF) than annotated"].count == 1
    assert "annotated 30 x 40" in report.errors["images of another size than annotated"].examples[0]
    assert "truncated" in report.errors["images that cannot be decoded"].examples[0]


def test_faulty_boxes_are_warnings_and_are_counted(coco_set: CocoSet) -> None:
    def change(data: dict) -> None:
        for k, box in enumerate([[1, 1, 0, 5], [100, 1, 5, 5], [1, 1, 0.5, 0.5], [20, 20, 30, 5], [1, 1, 0, 0]]):
            data["annotations"].append(
                {"id": 90 + k, "image_id": 102, "category_id": 7, "bbox": box, "area": 9, "segmentation": [[0] * 6]}
            )

    report = check_coco_file(*coco_set(change))
    assert report.ok
    assert {text: f.count for text, f in report.warnings.items()} == {
        "boxes of zero size are not used": 2,
        "boxes outside their image are not used": 1,
        "boxes smaller than a pixel, or of area 0, are not used": 1,
        "boxes that reach more than a pixel beyond their image": 1,
    }
    assert "check: 0 errors, 5 warnings" in report.text()
    assert "(2 times): annotation 90 of image 102, annotation 94 of image 102" in report.text()


def test_wrappers_are_opened_and_each_set_is_reported(coco_set: CocoSet) -> None:
    dataset = CocoDataset(*coco_set(), classes=("dog", "cat"), filter_empty_gt=True)
    small = CocoDataset(*coco_set(), classes=("dog", "cat"), min_size=1000)
    reports = check_dataset(RepeatDataset(ConcatDataset([dataset, small]), times=2))
    assert [r.counts["used images"] for r in reports] == [3, 0]
    assert reports[0].ok
    assert list(reports[1].errors) == ["no image is left by the filters (filter_empty_gt, min_size)"]
    assert [r.to_dict() for r in check_dataset(dataset)] == [reports[0].to_dict()]


def test_voc_folders(shared: Path) -> None:
    report = check_voc_folder(str(shared / "bccd" / "BCCD"))
    assert report.ok
    assert report.counts["images"] == 364
    assert report.counts["boxes"] == 4886
    assert report.warnings["boxes of zero size are not used"].count == 2
    ids = str(shared / "bccd" / "BCCD" / "ImageSets" / "Main" / "test.txt")
    assert check_voc_folder(str(shared / "bccd" / "BCCD"), ids).counts["images"] == 72


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "val"])
def test_every_image_of_coco_tiny_fits_its_annotation(shared: Path, split: str) -> None:
    root = shared / "coco_tiny"
    report = check_coco_file(
        str(root / f"annotations/instances_{split}2017.json"), str(root / f"{split}2017"), full=True
    )
    assert report.ok
    assert not report.warnings
    assert report.counts["images decoded"] == 80


def test_the_command_tells_faults_by_its_exit_code(coco_set: CocoSet, capsys: pytest.CaptureFixture[str]) -> None:
    ann_file, folder = coco_set()
    assert main(["check", ann_file]) == 0
    assert "6 images, 4 boxes" in capsys.readouterr().out
    assert main(["check", ann_file, "--images", "/nowhere"]) == 1
    assert "error: images that do not exist (6 times)" in capsys.readouterr().out
    assert main(["check", ann_file, "--classes", "Dog", "--json"]) == 1
    (report,) = json.loads(capsys.readouterr().out)
    assert "'dog' (2 boxes)" in next(iter(report["errors"]))
    assert main(["check", f"{folder}/none.json"]) == 1
    assert "none.json: no such file" in capsys.readouterr().err
    assert main(["check", folder]) == 1
    with pytest.raises(SystemExit) as caught:
        main(["check"])
    assert caught.value.code == 2


def test_shapes_and_conversion_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "shapes"
    assert main(["shapes", str(out), "--train", "3", "--val", "2", "--size", "64"]) == 0
    assert "3 train / 2 val images" in capsys.readouterr().out
    assert main(["check", str(out / "annotations" / "instances_train.json"), "--images", str(out / "train")]) == 0
    assert main(["shapes", str(out), "--size", "10"]) == 1
    assert main(["convert", str(tmp_path / "none"), "-o", str(tmp_path)]) == 1
    assert "none: no such folder" in capsys.readouterr().err


def test_help_needs_no_torch() -> None:
    code = "import sys\ntry:\n from fastdet.data.__main__ import main; main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert 'torch' not in sys.modules and 'cv2' not in sys.modules"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)
