"""Result files: what is written can be read back, and a stranger's pickle runs nothing."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from fastdet.evaluation import load_results, save_results
from fastdet.evaluation.result_files import box_rows, write_json
from fastdet.structures import ImageMeta, Instances
from fastdet.structures.packed import PackedResult, decode_masks, encode_masks, pack_result
from fastdet.utils.errors import DataError


def packed(*, masks: bool = True, count: int = 2) -> PackedResult:
    rng = np.random.default_rng(0)
    bitmaps = torch.from_numpy(rng.random((count, 6, 9)) < 0.5) if masks else None
    return pack_result(
        Instances(torch.rand(count, 4), torch.rand(count), torch.arange(count), bitmaps),
        ImageMeta(7, "a/7.jpg", (6, 9), (12, 18), (2.0, 2.0)),
    )


def assert_same(left: PackedResult, right: PackedResult) -> None:
    for name in ("image_id", "path", "file_size", "input_size", "scale", "masks"):
        assert getattr(left, name) == getattr(right, name), name
    for name in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))


def test_masks_survive_the_run_length_form() -> None:
    masks = np.random.default_rng(1).random((3, 5, 7)) < 0.4
    rles = encode_masks(masks)
    assert rles[0]["size"] == [5, 7]
    np.testing.assert_array_equal(decode_masks(rles), masks)
    assert encode_masks(np.zeros((0, 5, 7), dtype=bool)) == []


def test_a_mask_down_the_columns_has_the_counts_of_coco() -> None:
    from pycocotools import mask as rle_codec

    mask = np.array([[0, 1], [1, 1]], dtype=bool)
    expected = rle_codec.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert encode_masks(mask[None])[0]["counts"] == expected["counts"].decode()


@pytest.mark.parametrize("result", [packed(), packed(masks=False), packed(count=0)], ids=["masks", "boxes", "empty"])
def test_results_pkl_is_read_back_as_written(tmp_path: Path, result: PackedResult) -> None:
    path = save_results([result], tmp_path / "new" / "r.pkl")
    assert_same(load_results(path)[0], result)
    assert [p.name for p in path.parent.iterdir()] == ["r.pkl"]


def test_results_pkl_has_the_layout_of_mmdetection(tmp_path: Path) -> None:
    path = save_results([packed()], tmp_path / "r.pkl")
    with open(path, "rb") as file:
        (entry,) = pickle.load(file)
    assert (entry["img_id"], entry["img_path"], entry["ori_shape"], entry["scale_factor"]) == (
        7,
        "a/7.jpg",
        (6, 9),
        (2.0, 2.0),
    )
    instances = entry["pred_instances"]
    assert instances["bboxes"].dtype == torch.float32
    assert instances["bboxes"].shape == (2, 4)
    assert instances["labels"].dtype == torch.int64
    assert isinstance(instances["masks"][0]["counts"], bytes)


def test_numpy_arrays_of_other_writers_are_read(tmp_path: Path) -> None:
    instances = {"bboxes": np.ones((1, 4)), "scores": np.ones(1), "labels": np.ones(1, dtype=np.int32)}
    for protocol in (2, 5):
        path = tmp_path / f"{protocol}.pkl"
        path.write_bytes(pickle.dumps([{"img_id": "x", "ori_shape": (3, 4), "pred_instances": instances}], protocol))
        (result,) = load_results(path)
        assert (result.image_id, result.file_size, result.labels.dtype) == ("x", (3, 4), np.int64)


class Evil:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("evil",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e.pkl").write_bytes(pickle.dumps([Evil()]))
    with pytest.raises(DataError, match="mkdir, which is neither an array"):
        load_results(tmp_path / "e.pkl")
    # Torch's own storage loader unpickles whatever it is given; ours does not.
    inner = pickle.dumps(Evil())

    class Storage:
        def __reduce__(self) -> tuple:
            return torch.storage._load_from_bytes, (inner,)

    (tmp_path / "s.pkl").write_bytes(pickle.dumps([Storage()]))
    with pytest.raises(DataError, match="cannot be read"):
        load_results(tmp_path / "s.pkl")
    assert not (tmp_path / "evil").exists()


def test_other_layouts_and_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "old.pkl").write_bytes(pickle.dumps([[np.zeros((1, 5))]]))
    with pytest.raises(DataError, match=r"old\.pkl is not in MMDetection 3\.x's layout"):
        load_results(tmp_path / "old.pkl")
    with pytest.raises(DataError, match="does not exist"):
        load_results(tmp_path / "no.pkl")
    with pytest.raises(ValueError, match=r"must end in \.pkl"):
        save_results([], tmp_path / "r.json")


def test_rows_subtract_in_double_precision() -> None:
    result = packed(masks=False, count=1)
    row = box_rows([result], (5, 6))[0]
    x1, y1, x2, y2 = (float(v) for v in result.boxes[0])
    assert row == {
        "image_id": 7,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "score": float(result.scores[0]),
        "category_id": 5,
    }


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", [1])
    with pytest.raises(TypeError):
        write_json(path, [object()])
    assert json.loads(path.read_text()) == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
