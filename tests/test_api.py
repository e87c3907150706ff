"""`init_detector` and `inference_detector`: what goes in, what comes out."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import fastdet
from fastdet.data.images import read_image
from fastdet.data.shapes import ShapesConfig, write_shapes
from fastdet.utils.errors import CheckpointError, ConfigError, DataError, EnvironmentProblem

TINY = Path(__file__).parent / "integration" / "configs" / "tiny.py"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("pictures")
    write_shapes(folder, ShapesConfig(num_train=0, num_val=3, image_size=64, min_side=16, max_side=40))
    return sorted(str(p) for p in (folder / "val").iterdir())


@pytest.fixture(scope="module")
def detector() -> fastdet.Detector:
    torch.manual_seed(0)
    return fastdet.init_detector(TINY, device="cpu", cfg_options=["model.test_cfg.rcnn.score_thr=0.0"])


def test_a_path_gives_one_result_with_the_names_that_users_read(
    detector: fastdet.Detector, pictures: list[str]
) -> None:
    result = fastdet.inference_detector(detector, pictures[0])
    found = result.pred_instances
    assert found.bboxes.shape == (len(found), 4)
    assert found.scores.shape == found.labels.shape == (len(found),)
    assert len(found) == 20  # max_per_img: with no threshold every slot is filled
    assert found.masks is None
    assert found.labels.dtype == torch.int64
    assert not found.bboxes.is_inference() or not found.bboxes.requires_grad
    assert result.meta.path == pictures[0]


def test_a_path_a_pathlib_path_and_the_decoded_array_give_the_same(
    detector: fastdet.Detector, pictures: list[str]
) -> None:
    of_path = fastdet.inference_detector(detector, pictures[0]).pred_instances
    for same in (Path(pictures[0]), read_image(pictures[0])):
        found = fastdet.inference_detector(detector, same).pred_instances
        assert torch.equal(found.bboxes, of_path.bboxes)
        assert torch.equal(found.scores, of_path.scores)


def test_a_list_gives_a_list_in_its_order(detector: fastdet.Detector, pictures: list[str]) -> None:
    results = fastdet.inference_detector(detector, [pictures[1], read_image(pictures[0])])
    assert [r.meta.path for r in results] == [pictures[1], ""]
    alone = fastdet.inference_detector(detector, pictures[1]).pred_instances
    # Sums over a batch are cut differently: float32 with a few hundred terms.
    torch.testing.assert_close(results[0].pred_instances.scores, alone.scores, rtol=1e-4, atol=1e-5)
    assert fastdet.inference_detector(detector, []) == []


def test_boxes_lie_in_the_picture_of_the_file_not_of_the_network(detector: fastdet.Detector, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "wide.png"), np.random.default_rng(0).integers(0, 255, (100, 300, 3), np.uint8))
    boxes = fastdet.inference_detector(detector, tmp_path / "wide.png").pred_instances.bboxes
    assert boxes[:, 0::2].max() > 64  # the network sees 64 pixels at most
    assert boxes[:, 0::2].max() <= 300
    assert boxes[:, 1::2].max() <= 100


def test_nothing_of_the_input_array_is_changed(detector: fastdet.Detector) -> None:
    image = np.random.default_rng(1).integers(0, 255, (64, 48, 3), np.uint8)
    before = image.copy()
    fastdet.inference_detector(detector, image)
    assert np.array_equal(image, before)


def test_class_names_come_from_the_config_without_a_checkpoint(detector: fastdet.Detector) -> None:
    assert detector.classes == ("rectangle", "circle", "triangle")


@pytest.mark.parametrize("image", [np.zeros((4, 4, 4), np.uint8), np.zeros(7, np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_an_array_that_is_no_picture_is_refused(detector: fastdet.Detector, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\[H, W, 3\]"):
        fastdet.inference_detector(detector, image)


def test_errors_name_what_is_missing(detector: fastdet.Detector, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.png"):
        fastdet.inference_detector(detector, "no.png")
    with pytest.raises(ConfigError, match=r"no\.py"):
        fastdet.init_detector("no.py")
    with pytest.raises(CheckpointError, match=r"no\.pth"):
        fastdet.init_detector(TINY, "no.pth", device="cpu")
    with pytest.raises(EnvironmentProblem, match="cuda:77"):
        fastdet.init_detector(TINY, device="cuda:77")


def test_a_checkpoint_of_another_model_is_refused_with_names(detector: fastdet.Detector, tmp_path: Path) -> None:
    torch.save({"state_dict": detector.module.state_dict(), "meta": {}}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"backbone\.layer1\.2"):
        fastdet.init_detector(TINY, tmp_path / "w.pth", device="cpu", cfg_options=["model.backbone.depth=34"])
    with pytest.raises(CheckpointError, match=r"fc_cls.*\[4, 32\] in the file, \[6, 32\] in the model"):
        fastdet.init_detector(
            TINY, tmp_path / "w.pth", device="cpu", cfg_options=["model.roi_head.bbox_head.num_classes=5"]
        )


def test_a_loaded_checkpoint_gives_the_weights_and_the_class_names(
    detector: fastdet.Detector, pictures: list[str], tmp_path: Path
) -> None:
    meta = {"dataset_meta": {"classes": ["a", "b", "c"]}}
    torch.save({"state_dict": detector.module.state_dict(), "meta": meta}, tmp_path / "w.pth")
    again = fastdet.init_detector(
        TINY, tmp_path / "w.pth", device="cpu", cfg_options=["model.test_cfg.rcnn.score_thr=0.0"]
    )
    assert again.classes == ("a", "b", "c")
    one, two = (fastdet.inference_detector(d, pictures[0]).pred_instances for d in (detector, again))
    assert torch.equal(one.bboxes, two.bboxes)
