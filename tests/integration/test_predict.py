"""`fastdet predict` on every kind of source, and the JSON and pictures it writes."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.integration.commands import TINY, Ended, fastdet
from tests.integration.conftest import Trained


def predict(source: object, trained: Trained, out: Path, *more: object) -> Ended:
    return fastdet("predict", source, TINY, trained.checkpoint, "--out-dir", out, "--score-thr", "0.02", *more)


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_picture_gives_one_json_and_one_drawing(trained: Trained, shapes: Path, tmp_path: Path) -> None:
    picture = shapes / "val" / "val_00000.png"
    ended = predict(picture, trained, tmp_path)
    assert ended.code == 0, ended.err
    assert files(tmp_path) == ["preds/val_00000.json", "vis/val_00000.jpg"]
    content = json.loads((tmp_path / "preds" / "val_00000.json").read_text())
    assert set(content) == {"labels", "scores", "bboxes"}
    assert len(content["labels"]) == len(content["scores"]) == len(content["bboxes"]) > 0
    assert min(content["scores"]) >= 0.02
    assert content["scores"] == sorted(content["scores"], reverse=True)
    assert cv2.imread(str(tmp_path / "vis" / "val_00000.jpg")).shape == (64, 64, 3)


def test_a_folder_and_a_glob_give_the_same(trained: Trained, shapes: Path, tmp_path: Path) -> None:
    assert predict(shapes / "val", trained, tmp_path / "a", "--batch-size", "4").code == 0
    assert predict(f"{shapes}/val/*.png", trained, tmp_path / "b", "--batch-size", "4").code == 0
    names = files(tmp_path / "a")
    assert len(names) == 12
    assert names == files(tmp_path / "b")
    for name in (n for n in names if n.endswith(".json")):
        assert (tmp_path / "a" / name).read_text() == (tmp_path / "b" / name).read_text()


def test_pictures_of_one_name_in_two_folders_both_survive(trained: Trained, shapes: Path, tmp_path: Path) -> None:
    image = (shapes / "val" / "val_00000.png").read_bytes()
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.png").write_bytes(image)
    assert predict(f"{tmp_path}/*/same.png", trained, tmp_path / "out", "--no-save-vis").code == 0
    assert files(tmp_path / "out") == ["preds/one/same.json", "preds/two/same.json"]


def test_pictures_that_differ_in_their_suffix_both_survive(trained: Trained, shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "a.bmp"):
        cv2.imwrite(str(tmp_path / "in" / name), cv2.imread(str(shapes / "val" / "val_00000.png")))
    assert predict(tmp_path / "in", trained, tmp_path / "out", "--no-save-vis").code == 0
    assert files(tmp_path / "out") == ["preds/a.json", "preds/a.png.json"]


def test_a_video_gives_its_frames_in_order(trained: Trained, shapes: Path, tmp_path: Path) -> None:
    video = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (64, 64))
    assert writer.isOpened()
    for index in range(3):
        writer.write(cv2.imread(str(shapes / "val" / f"val_{index:05d}.png")))
    writer.release()
    ended = predict(video, trained, tmp_path / "out", "--batch-size", "2", "--no-save-vis")
    assert ended.code == 0, ended.err
    assert files(tmp_path / "out") == [f"preds/clip/{i:06d}.json" for i in range(3)]


@pytest.mark.parametrize("shape", [(40, 64, 3), (64, 40), (1, 1, 3)])
def test_odd_sizes_and_grey_pictures_work(trained: Trained, tmp_path: Path, shape: tuple[int, ...]) -> None:
    picture = tmp_path / "odd.png"
    cv2.imwrite(str(picture), np.full(shape, 90, np.uint8))
    ended = predict(picture, trained, tmp_path / "out")
    assert ended.code == 0, ended.err
    boxes = json.loads((tmp_path / "out" / "preds" / "odd.json").read_text())["bboxes"]
    assert all(0 <= x <= shape[1] and 0 <= y <= shape[0] for x0, y0, x1, y1 in boxes for x, y in ((x0, y0), (x1, y1)))


def test_what_cannot_be_read_is_one_message(trained: Trained, shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("no picture")
    whole = (shapes / "val" / "val_00000.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "broken.avi").write_bytes(b"no video")
    for source, words in (
        ("nowhere.png", "nowhere.png"),
        ("nothing/*.png", "no file matches"),
        (tmp_path / "empty", "no pictures in"),
        (tmp_path / "text.png", "cannot be decoded"),
        (tmp_path / "half.png", "truncated"),
        (tmp_path / "broken.avi", "cannot be opened as a video"),
    ):
        ended = predict(source, trained, tmp_path / "out")
        assert ended.code == 1
        assert words in ended.err
        assert "Traceback" not in ended.err
