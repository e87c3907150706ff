"""Converters to COCO's format: folders of one PNG an instance, and PASCAL VOC."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fastdet.utils.errors import DataError

from .images import IMAGE_SUFFIXES, read_image
from .masks import bitmap_to_rle, mask_boxes


def write_coco(
    path: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]], classes: Iterable[str]
) -> None:
    """Writes a COCO JSON file; category ids count from 1."""
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def link_images(folder: Path, out: Path) -> None:
    """Makes `out/images` a link to the source's images, or a copy where the file system has no links.

    Raises:
        DataError: `out/images` exists and is no link.
    """
    link = out / "images"
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        raise DataError(f"{link} exists already; choose another output folder or remove it")
    out.mkdir(parents=True, exist_ok=True)
    try:
        link.symlink_to(folder.resolve(), target_is_directory=True)
    except OSError:
        shutil.copytree(folder, link)


def convert_masks(source: str | Path, out: str | Path, *, class_name: str = "object") -> list[Path]:
    """Converts `<id>/images/*` with `<id>/masks/*.png`, one mask an instance, as in the 2018 Data Science Bowl.

    Masks become compressed RLEs, so nothing is lost; boxes and areas come from them. `images` becomes a link to the
    folder that holds the ids, where `file_name`s start. Empty masks are left out.

    Args:
        source: that folder, or its parent: then `splits/*.txt` beside it (ids, one a line) give one file each.
        out: folder of the JSON files: `<split>.json`, or `instances.json` without splits.

    Returns:
        The files written.

    Raises:
        DataError: no such folders, an id without image or masks, a mask of another size than its image.
    """
    root = _folder_of_ids(Path(source))
    splits = {path.stem: path.read_text().split() for path in sorted((root.parent / "splits").glob("*.txt"))}
    if not splits:
        splits = {"instances": [p.name for p in sorted(root.iterdir()) if (p / "masks").is_dir()]}
    link_images(root, Path(out))
    written = []
    for split, ids in splits.items():
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for image_id, name in enumerate(ids, start=1):
            image, found = _instances(root, name)
            images.append({"id": image_id, **image})
            annotations += [{"id": len(annotations) + k, "image_id": image_id, **f} for k, f in enumerate(found, 1)]
        path = Path(out) / f"{split}.json"
        write_coco(path, images, annotations, [class_name])
        written.append(path)
    return written


def convert_voc(source: str | Path, out: str | Path) -> list[Path]:
    """Converts a VOC year folder: one JSON for each list in ImageSets/Main, or `instances.json` of all XML files.

    Boxes are those of VOCDataset; difficult objects become crowds, so that both are ignored. `images` becomes a link
    to JPEGImages. Lists of a single class (`car_train.txt`) are passed over.

    Raises:
        DataError: an XML file or image is missing.
    """
    from .datasets.voc import find_image, parse_xml, read_ids  # imports torch, which --help does without

    root = Path(source)
    sets = {path.stem: read_ids(path) for path in sorted((root / "ImageSets" / "Main").glob("*.txt"))}
    xml = {path.stem: parse_xml(path) for path in sorted((root / "Annotations").glob("*.xml"))}
    if not xml:
        raise DataError(f"{root}: no XML files in Annotations/")
    classes = sorted({item.name for image in xml.values() for item in image.objects})
    sets = {name: ids for name, ids in sets.items() if not name.startswith(tuple(f"{c}_" for c in classes))}
    link_images(root / "JPEGImages", Path(out))
    written = []
    for split, ids in (sets or {"instances": list(xml)}).items():
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for image_id, name in enumerate(ids, start=1):
            if name not in xml:
                raise DataError(f"{root}: ImageSets/Main/{split}.txt lists {name}, which has no Annotations/{name}.xml")
            path = find_image(str(root / "JPEGImages"), name)
            height, width = xml[name].size or read_image(path).shape[:2]
            images.append({"id": image_id, "file_name": Path(path).name, "width": width, "height": height})
            for item in xml[name].objects:
                x1, y1, x2, y2 = item.box
                annotations.append({
                    "id": len(annotations) + 1, "image_id": image_id, "category_id": classes.index(item.name) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": int(item.difficult),
                })  # fmt: skip
        path_out = Path(out) / f"{split}.json"
        write_coco(path_out, images, annotations, classes)
        written.append(path_out)
    return written


def _folder_of_ids(source: Path) -> Path:
    for folder in (source, *(p for p in sorted(source.glob("*")) if p.is_dir())):
        if any(folder.glob("*/masks")):
            return folder
    raise DataError(f"{source}: no folders <id>/masks with one PNG an instance were found, here or one level below")


def _instances(root: Path, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The image entry and the annotations of one id, without their ids."""
    files = [p for p in sorted((root / name / "images").glob("*")) if p.suffix.lower() in IMAGE_SUFFIXES]
    if len(files) != 1:
        raise DataError(f"{root / name / 'images'}: one image was expected, {len(files)} found")
    height, width = read_image(files[0]).shape[:2]
    annotations = []
    for path in sorted((root / name / "masks").glob("*.png")):
        bitmap = (read_image(path)[..., 0] > 0).astype(np.uint8)
        if bitmap.shape != (height, width):
            raise DataError(f"{path}: a mask of H x W = {bitmap.shape}, an image of {height} x {width}")
        if not cv2.countNonZero(bitmap):
            continue
        x1, y1, x2, y2 = (float(v) for v in mask_boxes(bitmap[None])[0])
        annotations.append({
            "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": int(bitmap.sum()), "iscrowd": 0,
            "segmentation": bitmap_to_rle(bitmap),
        })  # fmt: skip
    if not (root / name / "masks").is_dir():
        raise DataError(f"{root / name / 'masks'}: no such folder")
    image = {"file_name": files[0].relative_to(root).as_posix(), "width": width, "height": height}
    return image, annotations
