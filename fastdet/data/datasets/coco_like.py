"""Sets in COCO's format with habits of their own: names, file names, the order of categories."""

import os
from typing import Any

import numpy as np

from fastdet.registry import DATASETS

from .coco import CocoDataset, CocoFile, CocoTable

COCO_ADDRESS = "http://images.cocodataset.org/"
MISSING = frozenset(
    {"patch16/objects365_v2_00908726.jpg", "patch6/objects365_v1_00320532.jpg", "patch6/objects365_v1_00320534.jpg"}
)
"""Images that Objects365 v2 lists and its download lacks."""


@DATASETS.register()
class CityscapesDataset(CocoDataset):
    """Cityscapes' eight classes of instances. Images with nothing but crowds count as empty.

    Source: Cordts et al., Cityscapes (CVPR 2016); MMDetection's `CityscapesDataset`.
    """

    default_classes = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")

    def counted(self, read: CocoTable) -> np.ndarray:
        """Images of the wanted classes with an object that is no crowd."""
        before = np.concatenate([[0], np.cumsum(~read.table.ignore)])
        first = read.table.first_box
        return read.has_objects & (before[first[1:]] > before[first[:-1]])


@DATASETS.register()
class DeepFashionDataset(CocoDataset):
    """DeepFashion's fifteen classes.

    Source: Liu et al., DeepFashion (CVPR 2016); MMDetection's `DeepFashionDataset`.
    """

    default_classes = (
        "top", "skirt", "leggings", "dress", "outer", "pants", "bag", "neckwear", "headwear", "eyeglass", "belt",
        "footwear", "hair", "skin", "face",
    )  # fmt: skip


@DATASETS.register("LVISV05Dataset", "LVISDataset")
class LVISV05Dataset(CocoDataset):
    """LVIS v0.5: the file's own classes in its order; COCO 2014's file names are read as those of 2017.

    Source: Gupta et al., LVIS (CVPR 2019); MMDetection's `LVISV05Dataset`.
    """

    default_classes = None

    def prepare(self, file: CocoFile) -> CocoFile:
        """COCO_val2014_000000391895.jpg becomes 000000391895.jpg."""

        def renamed(image: dict[str, Any]) -> dict[str, Any]:
            name = image.get("file_name", "")
            return {**image, "file_name": name[-16:]} if name.startswith("COCO") else image

        return file._replace(images=[renamed(image) for image in file.images])


@DATASETS.register()
class LVISV1Dataset(CocoDataset):
    """LVIS v1: the file's own classes in its order; file names are the end of the images' addresses.

    Source: Gupta et al., LVIS (CVPR 2019); MMDetection's `LVISV1Dataset`.
    """

    default_classes = None

    def prepare(self, file: CocoFile) -> CocoFile:
        """http://images.cocodataset.org/train2017/000000391895.jpg becomes train2017/000000391895.jpg."""

        def renamed(image: dict[str, Any]) -> dict[str, Any]:
            if "coco_url" not in image:
                return image
            return {**image, "file_name": image["coco_url"].replace(COCO_ADDRESS, "")}

        return file._replace(images=[renamed(image) for image in file.images])


@DATASETS.register()
class Objects365V1Dataset(CocoDataset):
    """Objects365 v1: the file's own classes by their ids, since the files list them in different orders.

    Source: Shao et al., Objects365 (ICCV 2019); MMDetection's `Objects365V1Dataset`.
    """

    default_classes = None

    def prepare(self, file: CocoFile) -> CocoFile:
        """Categories by id."""
        return file._replace(categories=sorted(file.categories, key=lambda category: category.get("id", 0)))


@DATASETS.register()
class Objects365V2Dataset(CocoDataset):
    """Objects365 v2: the file's own classes in its order; of file names the last folder and the name count.

    Source: Shao et al., Objects365 (ICCV 2019); MMDetection's `Objects365V2Dataset`, which leaves the same three images
    out.
    """

    default_classes = None

    def prepare(self, file: CocoFile) -> CocoFile:
        """images/v1/patch8/objects365_v1_00420917.jpg becomes patch8/objects365_v1_00420917.jpg."""

        def renamed(image: dict[str, Any]) -> dict[str, Any]:
            return {**image, "file_name": os.path.join(*image.get("file_name", "").split("/")[-2:])}

        images = [renamed(image) for image in file.images]
        left_out = {image.get("id") for image in images if image["file_name"] in MISSING}
        return file._replace(
            images=[image for image in images if image.get("id") not in left_out],
            annotations=[a for a in file.annotations if a.get("image_id") not in left_out],
        )
