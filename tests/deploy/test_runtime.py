"""What runs exported files: doubtful pictures computed again, several sizes, several threads."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from fastdet import ops
from fastdet.deploy import load
from fastdet.deploy.graph import GraphOptions
from fastdet.deploy.metadata import Metadata, is_exported
from fastdet.deploy.onnx_file import export_model
from fastdet.deploy.redo import ExactGraph
from fastdet.deploy.runtime import BucketedDetector, DeployedDetector
from fastdet.deploy.sessions import OnnxSession
from fastdet.deploy.verify import Limits, compare
from fastdet.structures import Batch
from fastdet.utils.errors import CheckpointError, DataError
from tests.deploy.conftest import Exported
from tests.deploy.test_bodies import exported as body_exported
from tests.deploy.test_bodies import scene
from tests.golden.configs import two_stage
from tests.golden.harness import build_filled

CHANNELS = [64, 128, 256, 512]


def pictures(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Uint8 pixels [3, 3, H, W]: a crowd of blocks, a padded one, and a picture of one colour; and their sizes."""
    generator = torch.Generator().manual_seed(0)
    blocks = torch.rand(3, 3, size // 8 + 1, size // 8 + 1, generator=generator) * 255
    pixels = blocks.repeat_interleave(8, 2).repeat_interleave(8, 3)[:, :, :size, :size].byte().contiguous()
    pixels[2] = 114
    return pixels, torch.tensor([[size, size], [size - 28, size - 17], [size, size - 40]])


def described(options: GraphOptions, **changes: object) -> Metadata:
    values = {
        "classes": (), "transforms": (), "shape": options.shape, "layout": options.layout, "whole_images": False,
        "pad_divisor": 32, "mask_threshold": 0.5, "candidates": options.candidates, "rounds": options.rounds,
    }  # fmt: skip
    return Metadata(**{**values, **changes})  # type: ignore[arg-type]


def test_a_graph_without_its_suppressions_finds_the_same(exported: Exported) -> None:
    pixels, sizes = pictures(128)
    deployed = load(exported.file)
    assert isinstance(deployed, DeployedDetector)
    outputs = ExactGraph(str(exported.file)).run(
        np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy()), sizes.numpy().astype(np.int32)
    )
    own = exported.detector.predict(Batch(pixels, sizes, None, ()))
    outcome = compare([own], [deployed.detections(outputs)], Limits())
    assert list(outputs) == ["boxes", "scores", "labels", "num", "exact"]
    assert outputs["exact"].tolist() == [1, 1, 1]
    assert outcome.expected > 100
    assert outcome.holds(Limits()), outcome


@pytest.mark.slow
def test_pictures_of_which_a_graph_is_not_sure_are_computed_again() -> None:
    model = two_stage.faster_rcnn(18, CHANNELS)
    model["test_cfg"]["rpn"].update(nms_pre=300, max_per_img=60)
    detector = build_filled(model).eval()
    options = GraphOptions(shape=(128, 128), rounds=1)
    exported = export_model(detector, options, described(options))
    session = OnnxSession(exported.SerializeToString())
    deployed = DeployedDetector(session, described(options), "model", ExactGraph(exported))
    pixels, sizes = pictures(128)
    batch = Batch(pixels, sizes, None, ())
    own, outputs = detector.predict(batch), deployed.run(pixels, sizes)
    assert (outputs["exact"] == 0).any()
    assert not compare([own], [deployed.detections(outputs)], Limits()).holds(Limits())
    outcome = compare([own], [deployed.predict_batch(batch)], Limits())
    assert outcome.expected > 50
    assert outcome.holds(Limits()), outcome
    assert deployed.redone == (outputs["exact"] == 0).sum()


def test_soft_suppression_is_computed_again_with_the_kernel() -> None:
    boxes, scores, _, _ = scene(3)

    def suppressed(images: torch.Tensor, sizes: torch.Tensor) -> tuple[torch.Tensor, ...]:
        index, final, count = ops.soft_nms_padded(images, sizes, None, 0.3, 10, method="linear")
        return images.gather(1, index[..., None].expand(-1, -1, 4)), final, count

    model = body_exported(suppressed, (boxes[:2], scores[:2]), ("images", "sizes"), candidates=5)
    own = suppressed(boxes, scores)
    few = list(OnnxSession(model.SerializeToString()).run(boxes.numpy(), scores.numpy()).values())
    exact = list(ExactGraph(model).run(boxes.numpy(), scores.numpy()).values())
    assert not np.allclose(few[1], own[1])  # five boxes are too few here
    for found, expected in zip(exact, own, strict=True):
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)


class Sums:
    """A session whose boxes hold the height and width of its graph, the sum of a picture, and its size."""

    name = "sums"

    def __init__(self, slots: int) -> None:
        self.slots = slots

    def run(self, images: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        number = len(images)
        boxes = np.zeros((number, self.slots, 4), np.float32)
        boxes[:, 0, :2] = images.shape[1:3]
        boxes[:, 0, 2], boxes[:, 0, 3] = images.reshape(number, -1).sum(1), sizes[:, 0]
        one = np.ones((number, self.slots), np.float32)
        return {"boxes": boxes, "scores": one, "labels": one.astype(np.int32), "num": one[:, 0].astype(np.int32),
                "exact": one[:, 0].astype(np.int32)}  # fmt: skip


def test_a_picture_goes_to_the_smallest_size_that_holds_it() -> None:
    several = BucketedDetector(
        [
            DeployedDetector(Sums(slots), described(GraphOptions(shape=shape)), "model")
            for slots, shape in ((2, (128, 160)), (3, (160, 128)), (1, (96, 96)))
        ]
    )
    sizes = torch.tensor([[150, 128], [90, 96], [128, 129], [96, 60]])
    pixels = torch.zeros(4, 3, 150, 129, dtype=torch.uint8)
    for row, (height, width) in enumerate(sizes.tolist()):
        pixels[row, 0, height - 1, width - 1] = row + 1  # the last pixel arrives
    found = several.predict_batch(Batch(pixels, sizes, None, ()))
    assert found.boxes[:, 0].tolist() == [[160, 128, 1, 150], [96, 96, 2, 90], [128, 160, 3, 128], [96, 96, 4, 96]]
    assert found.scores.tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0]]
    assert found.count.tolist() == [1, 1, 1, 1]
    with pytest.raises(DataError, match="--shape 161 10 too"):
        several.predict_batch(Batch(torch.zeros(1, 3, 161, 10), torch.tensor([[161, 10]]), None, ()))


def test_a_folder_is_several_sizes_of_one_detector(exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no exported detector"):
        load(tmp_path)
    assert not is_exported(tmp_path)
    (tmp_path / "a.onnx").write_bytes(exported.file.read_bytes())
    assert is_exported(str(tmp_path))
    several = load(tmp_path)
    assert isinstance(several, BucketedDetector)
    other = described(GraphOptions(shape=(96, 96)), classes=("cat",))
    session = several.buckets[0].session
    with pytest.raises(CheckpointError, match="different detectors"):
        BucketedDetector([several.buckets[0], DeployedDetector(session, other, "b.onnx")])


def test_threads_may_share_a_detector(exported: Exported, shapes: Path) -> None:
    deployed = load(exported.file, threads=1)
    images = sorted((shapes / "val").iterdir())
    alone = [deployed.predict([image])[0].pred_instances.scores for image in images]
    failures: list[str] = []

    def work(start: int) -> None:
        for step in range(2 * len(images)):
            place = (start + step) % len(images)
            scores = deployed.predict([images[place]])[0].pred_instances.scores
            if not np.array_equal(scores, alone[place]):
                failures.append(images[place].name)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []
