"""Configs of 2.28.2 and 3.3.0 that share their weights give equal Experiments, but for a table of real differences."""

from pathlib import Path

import pytest

from tests.config.wheels import unpack_configs

from .stock import differences, load, pairs
from .twins import DIFFERENCES, VOC, Difference

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The config folders of both releases."""
    old, new = (unpack_configs(r, tmp_path_factory.mktemp(r)) for r in ("2.28.2", "3.3.0"))
    return old, new


def check(releases: tuple[Path, Path], pair: tuple[str, str], expected: Difference | None) -> None:
    """Both configs of a pair differ exactly where the table says."""
    old, new = (load(root / name) for root, name in zip(releases, pair, strict=True))
    found = {path: (a, b) for path, a, b in differences(old.to_dict(), new.to_dict())}
    assert found == (expected.places if expected else {}), pair
    assert (old == new) == (not found)


@pytest.mark.slow
def test_twins_are_equal_but_for_the_table(releases: tuple[Path, Path]) -> None:
    found = pairs(*releases)
    assert len(found) == 66
    assert DIFFERENCES.keys() <= set(found)
    for pair in found:
        check(releases, pair, DIFFERENCES.get(pair))


@pytest.mark.parametrize("pair", VOC)
def test_twins_of_voc_are_equal_but_for_the_table(releases: tuple[Path, Path], pair: tuple[str, str]) -> None:
    check(releases, pair, VOC[pair])


@pytest.mark.parametrize(
    "pair",
    [
        ("faster_rcnn/faster_rcnn_r50_fpn_1x_coco.py", "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"),
        ("mask_rcnn/mask_rcnn_r50_caffe_fpn_mstrain_1x_coco.py", "mask_rcnn/mask-rcnn_r50-caffe_fpn_ms-1x_coco.py"),
        ("retinanet/retinanet_r18_fpn_1x_coco.py", "retinanet/retinanet_r18_fpn_1x_coco.py"),
        ("retinanet/retinanet_r50_fpn_fp16_1x_coco.py", "retinanet/retinanet_r50_fpn_amp-1x_coco.py"),
    ],
)
def test_some_twins(releases: tuple[Path, Path], pair: tuple[str, str]) -> None:
    check(releases, pair, DIFFERENCES.get(pair))
