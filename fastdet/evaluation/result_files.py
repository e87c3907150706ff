"""Result files: COCO result JSON and MMDetection 3.x's results.pkl, written beside their place and renamed.

Pickles are read by an unpickler that knows arrays, tensors and plain containers alone: a stranger's file runs no code.
"""

import io
import json
import pickle
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastdet.structures.packed import PackedResult, Rle
from fastdet.utils.errors import DataError
from fastdet.utils.files import replacing, write_text


def box_rows(results: Iterable[PackedResult], category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Rows of PREFIX.bbox.json: image_id, bbox (x, y, w, h), score, category_id."""
    return [
        {"image_id": result.image_id, "bbox": box, "score": score, "category_id": category_ids[label]}
        for result in results
        for box, score, label in zip(_xywh(result.boxes), *_numbers(result), strict=True)
    ]


def mask_rows(results: Iterable[PackedResult], category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Rows of PREFIX.segm.json: those of the boxes with a `segmentation`. Results without masks give none."""
    return [
        {
            "image_id": result.image_id,
            "bbox": box,
            "score": score,
            "category_id": category_ids[label],
            "segmentation": mask,
        }
        for result in results
        if result.masks is not None
        for box, score, label, mask in zip(_xywh(result.boxes), *_numbers(result), result.masks, strict=True)
    ]


def proposal_rows(results: Iterable[PackedResult]) -> list[dict[str, Any]]:
    """Rows of PREFIX.proposal.json: boxes of no class, with COCO's category_id 1 for all."""
    return [
        {"image_id": result.image_id, "bbox": box, "score": score, "category_id": 1}
        for result in results
        for box, score in zip(_xywh(result.boxes), result.scores.astype(float).tolist(), strict=True)
    ]


def _xywh(boxes: np.ndarray) -> list[list[float]]:
    exact = boxes.astype(float)  # subtract in float64, as the evaluators do
    return np.concatenate([exact[:, :2], exact[:, 2:] - exact[:, :2]], axis=1).tolist()


def _numbers(result: PackedResult) -> tuple[list[float], list[int]]:
    return result.scores.astype(float).tolist(), result.labels.tolist()


def write_json(path: str | Path, value: Any) -> Path:
    """Writes a JSON file beside its place and renames it; makes the folder if needed."""
    write_text(path, json.dumps(value))
    return Path(path)


def save_results(results: Iterable[PackedResult], path: str | Path) -> Path:
    """Writes results.pkl in the layout of MMDetection 3.x's `--out`.

    A list of dicts with `img_id`, `img_path`, `ori_shape` and `img_shape` (H, W), `scale_factor` (sx, sy) and
    `pred_instances`: `bboxes` [n, 4] xyxy in file pixels, `scores` [n], `labels` [n] as CPU tensors, and `masks` as a
    list of RLE where there are any.

    Raises:
        ValueError: a path that does not end in .pkl or .pickle.
    """
    if Path(path).suffix not in (".pkl", ".pickle"):
        raise ValueError(f"--out must end in .pkl or .pickle, not {str(path)!r}")
    entries = [_entry(result) for result in results]
    with replacing(path) as file:
        pickle.dump(entries, file, protocol=4)
    return Path(path)


def _entry(result: PackedResult) -> dict[str, Any]:
    instances: dict[str, Any] = {
        "bboxes": torch.from_numpy(np.array(result.boxes, dtype=np.float32)),
        "scores": torch.from_numpy(np.array(result.scores, dtype=np.float32)),
        "labels": torch.from_numpy(np.array(result.labels, dtype=np.int64)),
    }
    if result.masks is not None:
        instances["masks"] = [{"size": m["size"], "counts": m["counts"].encode()} for m in result.masks]
    return {
        "img_id": result.image_id,
        "img_path": result.path,
        "ori_shape": tuple(result.file_size),
        "img_shape": tuple(result.input_size),
        "scale_factor": tuple(result.scale),
        "pred_instances": instances,
    }


def load_results(path: str | Path) -> list[PackedResult]:
    """Reads a results.pkl of the 3.x layout, ours or MMDetection's, without running code from it.

    Raises:
        DataError: no such file, another layout, or an object that is neither array, tensor nor plain container.
    """
    try:
        with open(path, "rb") as file:
            entries = _RestrictedUnpickler(file).load()
    except FileNotFoundError:
        raise DataError(f"result file {path} does not exist") from None
    except (
        pickle.UnpicklingError,
        EOFError,
        ArithmeticError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as problem:
        raise DataError(f"result file {path} cannot be read: {problem}") from None
    if not isinstance(entries, list) or not all(isinstance(e, dict) and "pred_instances" in e for e in entries):
        raise DataError(
            f"result file {path} is not in MMDetection 3.x's layout, a list of dicts with 'pred_instances'; "
            "files of 2.x have no image ids: run the test again with --out"
        )
    return [_from_entry(entry, index) for index, entry in enumerate(entries)]


def _from_entry(entry: dict[str, Any], index: int) -> PackedResult:
    instances = entry["pred_instances"]
    height, width = entry["ori_shape"][:2]
    input_height, input_width = entry.get("img_shape", entry["ori_shape"])[:2]
    sx, sy = tuple(entry.get("scale_factor") or (1.0, 1.0))[:2]
    masks = instances.get("masks")
    return PackedResult(
        image_id=entry.get("img_id", index),
        path=entry.get("img_path", ""),
        file_size=(int(height), int(width)),
        input_size=(int(input_height), int(input_width)),
        scale=(float(sx), float(sy)),
        boxes=np.asarray(instances["bboxes"], dtype=np.float32).reshape(-1, 4),
        scores=np.asarray(instances["scores"], dtype=np.float32),
        labels=np.asarray(instances["labels"], dtype=np.int64),
        masks=None if masks is None else tuple(_text_rle(mask) for mask in masks),
    )


def _text_rle(mask: Rle) -> Rle:
    counts = mask["counts"]
    return {
        "size": [int(s) for s in mask["size"]],
        "counts": counts.decode() if isinstance(counts, bytes) else counts,
    }


def _load_storage(data: bytes) -> Any:
    """A tensor's storage out of a pickle; torch's own function for it would unpickle anything."""
    return torch.load(io.BytesIO(data), weights_only=True)


class _RestrictedUnpickler(pickle.Unpickler):
    _ALLOWED = frozenset(
        {
            ("collections", "OrderedDict"),
            ("_codecs", "encode"),
            ("builtins", "bytearray"),
            ("builtins", "set"),
            ("torch._utils", "_rebuild_tensor_v2"),
            ("torch", "Size"),
            ("numpy", "dtype"),
            ("numpy", "ndarray"),
            *(
                (f"numpy.{core}.{module}", name)
                for core in ("core", "_core")
                for module, name in (
                    ("multiarray", "_reconstruct"),
                    ("multiarray", "scalar"),
                    ("numeric", "_frombuffer"),
                )
            ),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return _load_storage
        if (module, name) in self._ALLOWED:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(
            f"it holds a {module}.{name}, which is neither an array, a tensor nor a plain container; "
            "only files of trusted origin should be converted by other means"
        )
