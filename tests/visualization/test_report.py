"""The report: its figures worked out by hand, and the page as a whole."""

import base64
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fastdet.structures import ImageRecord, Instances
from fastdet.structures.packed import PackedResult, encode_masks
from fastdet.structures.precision import PrecisionRecall
from fastdet.visualization.analysis import choose_pictures, class_figures, confusion_matrix, score_curve
from fastdet.visualization.matching import match_image, match_images, mistakes, overlaps
from fastdet.visualization.predictions import result_to_json
from fastdet.visualization.report import write_report
from fastdet.visualization.wall import describe

CLASSES = ("cat", "dog & co")
CAT = [10, 10, 50, 50]
DOG = [60, 60, 90, 90]


def record(image_id: int, boxes: list, labels: list, ignore: list | None = None, path: str = "") -> ImageRecord:
    return ImageRecord(
        image_id,
        path,
        100,
        120,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array([False] * len(boxes) if ignore is None else ignore, bool),
    )


def result(image_id: int, boxes: list, scores: list, labels: list, masks: np.ndarray | None = None) -> PackedResult:
    return PackedResult(
        image_id,
        f"{image_id}.png",
        (100, 120),
        (100, 120),
        (1.0, 1.0),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(labels, np.int64),
        None if masks is None else tuple(encode_masks(masks)),
    )


def arrays(num_classes: int = 2) -> PrecisionRecall:
    precision = np.ones((2, 101, num_classes, 1, 1))
    precision[:, 51:] = 0
    precision[1] *= 0.5
    return PrecisionRecall(
        np.array([0.5, 0.75]), np.linspace(0, 1, 101), ("all",), (100,), precision, precision[:, 0], precision
    )


def test_each_detection_gets_the_free_object_it_overlaps_most() -> None:
    match = match_image(record(1, [CAT, DOG], [0, 1]), result(1, [CAT, CAT, DOG], [0.5, 0.9, 0.8], [0, 0, 1]))
    assert match.order.tolist() == [1, 2, 0]
    assert match.found.tolist() == [0, 1, -1]
    wrong = mistakes(match, 0.6)
    assert (wrong.right, wrong.confused, wrong.false, wrong.missed) == ([(1, 0), (2, 1)], [], [], [])
    assert mistakes(match, 0.5).false == [0]
    assert wrong.f1 == 1.0
    assert mistakes(match, 0.5).f1 == pytest.approx(4 / 5)


def test_another_class_on_an_object_is_a_confusion() -> None:
    match = match_image(record(1, [CAT, DOG], [0, 1]), result(1, [CAT, [0, 60, 20, 80]], [0.9, 0.8], [1, 0]))
    wrong = mistakes(match, 0.0)
    assert (wrong.confused, wrong.false, wrong.missed) == ([(0, 0)], [1], [1])
    assert wrong.number == 3
    assert confusion_matrix([match], [wrong], 2).tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert describe(wrong, match.record, match.result, CLASSES) == (
        "missed dog & co; cat taken for dog & co; false cat 0.80"
    )


def test_detections_on_ignored_objects_count_nowhere() -> None:
    match = match_image(record(1, [CAT], [0], [True]), result(1, [CAT, DOG], [0.9, 0.8], [0, 0]))
    assert match.ignored.tolist() == [True, False]
    wrong = mistakes(match, 0.0)
    assert (wrong.right, wrong.false, wrong.missed) == ([], [1], [])


def test_overlap_with_a_crowd_is_the_share_inside_it() -> None:
    boxes, truth = np.array([[0, 0, 10, 10]]), np.array([[0, 0, 100, 5], [0, 0, 10, 5]])
    assert overlaps(boxes, truth, np.array([True, False])).tolist() == [[0.5, 0.5]]
    assert overlaps(np.zeros((1, 4)), np.zeros((1, 4)), np.array([False])).tolist() == [[0.0]]


def test_the_best_f1_worked_out_by_hand() -> None:
    # By score: right 0.9, wrong 0.8, right 0.7, wrong 0.2; three objects.
    # F1 2/4, 2/5, 4/6, 4/7: best from 0.7 on.
    match = match_image(
        record(1, [CAT, DOG, [0, 90, 9, 99]], [0, 0, 0]),
        result(1, [CAT, CAT, DOG, CAT], [0.9, 0.8, 0.7, 0.2], [0, 0, 0, 0]),
    )
    curve = score_curve([match])
    assert curve.best_threshold == pytest.approx(0.7)
    assert curve.best_f1 == pytest.approx(2 / 3)
    assert curve.f1[[0, 50, 75, 85, 100]].tolist() == pytest.approx([4 / 7, 4 / 6, 2 / 5, 2 / 4, 0])
    assert curve.precision[[50, 100]].tolist() == pytest.approx([2 / 3, 1])
    assert curve.recall[[50, 85]].tolist() == pytest.approx([2 / 3, 1 / 3])


def test_equal_scores_are_taken_together() -> None:
    match = match_image(record(1, [CAT], [0]), result(1, [CAT, DOG], [0.5, 0.5], [0, 0]))
    assert score_curve([match]).best_f1 == pytest.approx(2 / 3)


def test_nothing_to_find_and_nothing_found() -> None:
    match = match_image(record(1, [], []), result(1, [], [], []))
    curve = score_curve([match])
    assert (curve.best_f1, curve.best_threshold) == (0.0, 0.5)
    assert mistakes(match, 0.5).f1 == 1.0
    assert describe(mistakes(match, 0.5), match.record, match.result, CLASSES) == "nothing to find"


def test_class_figures_count_objects_images_and_detections() -> None:
    records = [record(1, [CAT, DOG], [0, 0], [False, True]), record(2, [CAT], [0])]
    results = [result(1, [CAT], [0.9], [0]), result(2, [CAT, DOG], [0.8, 0.1], [0, 0])]
    rows = class_figures(match_images(records, results), CLASSES, {"bbox": arrays()}, score_threshold=0.5)
    assert (rows[0].objects, rows[0].images, rows[0].detections, rows[0].best_f1) == (2, 2, 2, 1.0)
    assert rows[0].ap["bbox"] == pytest.approx((51 / 101 * 0.75, 51 / 101, 51 / 101 / 2))
    assert (rows[1].objects, rows[1].best_f1) == (0, 0.0)


def test_pictures_are_chosen_once_and_the_worst_come_first() -> None:
    records = [record(i, [CAT, DOG], [0, 1]) for i in range(8)]
    found = [[], [CAT], *[[CAT, DOG]] * 6]
    results = [result(i, boxes, [0.9] * len(boxes), [0, 1][: len(boxes)]) for i, boxes in enumerate(found)]
    matches = match_images(records, results)
    chosen = choose_pictures(matches, [mistakes(m, 0.5) for m in matches], 8)
    assert chosen["worst"] == [0, 1]
    assert len(chosen["best"]) == len(chosen["random"]) == 2
    assert len({i for part in chosen.values() for i in part}) == 6


def test_json_of_a_result_has_the_names_of_det_inferencer() -> None:
    mask = torch.zeros(1, 4, 6, dtype=torch.bool)
    mask[0, 1:3, 2:5] = True
    values = result_to_json(Instances(torch.tensor([[2.0, 1, 5, 3]]), torch.tensor([0.5]), torch.tensor([1]), mask))
    assert json.loads(json.dumps(values)) == {
        "labels": [1],
        "scores": [0.5],
        "bboxes": [[2.0, 1.0, 5.0, 3.0]],
        "masks": [{"size": [4, 6], "counts": encode_masks(mask.numpy())[0]["counts"]}],
    }
    empty = Instances(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert result_to_json(empty) == {"labels": [], "scores": [], "bboxes": []}


@pytest.fixture
def page(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    records, results = [], []
    for image_id in range(6):
        path = tmp_path / f"{image_id}.png"
        cv2.imwrite(str(path), rng.integers(0, 255, (100, 120, 3), dtype=np.uint8))
        records.append(record(image_id, [CAT, DOG], [0, 1], path=str(path)))
        masks = np.zeros((2, 100, 120), bool)
        masks[:, 20:40, 20:40] = True
        boxes = [CAT, DOG] if image_id % 2 else [CAT, CAT]
        results.append(result(image_id, boxes, [0.9, 0.6], [0, 1], masks))
    records[5] = record(5, [CAT, DOG], [0, 1], path=str(tmp_path / "gone.png"))
    log = tmp_path / "scalars.json"
    rows = [{"lr": 0.1, "loss": 2.0 / i, "loss_cls": 1.0 / i, "acc": 90.0, "grad_norm": 3.0, "step": i} for i in (1, 2)]
    log.write_text("".join(json.dumps(r) + "\n" for r in [*rows, {"coco/bbox_mAP": 0.5, "val_loss": 1.0, "step": 1}]))
    return write_report(
        tmp_path / "out" / "report.html",
        title="tiny <test>",
        metrics={"coco/bbox_mAP": 0.515, "coco/bbox_mAP_50": 0.75, "coco/bbox_mAP_s": -1.0, "coco/cat_precision": 0.5},
        classes=CLASSES,
        records=records,
        results=results,
        curves={"bbox": arrays()},
        log_file=log,
        environment={"torch": "2.11", "command": "fastdet test a && b"},
        config="model = dict(type='A')\n",
        baseline={"coco/bbox_mAP": 0.5},
    )


def test_the_page_is_well_formed_and_needs_nothing_else(page: Path) -> None:
    text = page.read_text()
    root = ET.fromstring(text.replace("<!DOCTYPE html>", ""))
    assert root.find("head/title").text == "tiny <test>"
    for element in root.iter():
        for name in ("src", "href"):
            assert element.get(name, "data:").startswith("data:")
    assert not re.search(r"https?://|url\(|@import|<link", text)


def test_the_page_shows_the_numbers(page: Path) -> None:
    text = page.read_text()
    assert "<b>0.515</b>" in text
    assert '<em class="up">+0.015</em>' in text
    assert '<b>–</b><span title="coco/bbox_mAP_s">' in text
    assert "6 images, 12 objects, 2 classes" in text
    titles = [h.text for h in ET.fromstring(text.replace("<!DOCTYPE html>", "")).iter("h2")]
    assert titles == ["Training", "Classes", "Precision, recall and the score", "Confusions", "Pictures"]
    assert "missed dog &amp; co; false dog &amp; co 0.60" in text
    assert "model = dict(type=&#x27;A&#x27;)" in text


def test_the_pictures_are_small_jpegs_and_a_missing_one_is_said(page: Path) -> None:
    text = page.read_text()
    uris = re.findall(r"data:image/jpeg;base64,([^\"]+)", text)
    assert 0 < len(uris) < 6
    image = cv2.imdecode(np.frombuffer(base64.b64decode(uris[0]), np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (300, 360, 3)  # three times the file, the most that it is enlarged
    assert text.count("the picture could not be read") == 1


def test_the_data_of_the_plots_stand_beside_the_page(page: Path) -> None:
    data = json.loads(page.with_suffix(".json").read_text())
    assert data["metrics"]["coco/bbox_mAP"] == 0.515
    assert data["plots"]["loss"]["series"][0] == {"name": "loss", "x": [1.0, 2.0], "y": [2.0, 1.0]}
    assert [s["name"] for s in data["plots"]["loss"]["series"]] == ["loss", "loss_cls", "val_loss"]
    assert {"validation", "learning_rate", "accuracy", "grad_norm", "score"} <= set(data["plots"])
    assert len(data["plots"]["precision_recall_bbox"]["series"]) == 3
    assert np.array(data["confusion"]["counts"]).sum() == 15
    assert sorted(path.name for path in page.parent.iterdir()) == ["report.html", "report.json"]


def test_the_same_input_gives_the_same_bytes(page: Path, tmp_path: Path) -> None:
    first = page.read_bytes()
    rec = [record(1, [CAT], [0], path=str(tmp_path / "1.png"))]
    res = [result(1, [CAT], [0.9], [0])]
    pages = [
        write_report(tmp_path / name, title="t", metrics={"mAP": 1.0}, classes=CLASSES, records=rec, results=res)
        for name in ("a.html", "b.html")
    ]
    assert pages[0].read_bytes() == pages[1].read_bytes() != first


def test_a_report_of_numbers_alone_has_no_empty_sections(tmp_path: Path) -> None:
    path = write_report(tmp_path / "r.html", title="t", metrics={"pascal_voc/mAP": 0.5})
    assert "<h2>" not in path.read_text()
    assert "<b>0.500</b>" in path.read_text()


def test_missing_class_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="classes has 1 names, and a label is 1"):
        write_report(tmp_path / "r.html", title="t", metrics={}, classes=("cat",), records=[record(1, [DOG], [1])])


def test_many_classes_show_the_most_confused(tmp_path: Path) -> None:
    classes = [f"class {i}" for i in range(60)]
    path = write_report(
        tmp_path / "r.html",
        title="t",
        metrics={},
        classes=classes,
        records=[record(1, [CAT, DOG], [57, 3])],
        results=[result(1, [CAT, DOG], [0.9, 0.8], [58, 3])],
        curves={"bbox": arrays(60)},
    )
    text = path.read_text()
    assert "Of 60 classes, the 40 that are most often confused" in text
    assert "class 57 → class 58: 1 (100%)" in text
    assert "the 24 with the lowest AP" in text
