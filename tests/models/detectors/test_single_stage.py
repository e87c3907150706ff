"""SingleStageDetector: shapes, fake tensors, invariance against padding, meta device."""

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fastdet.compat.models import translate_model
from fastdet.models import set_sampling_order
from fastdet.models.detectors import SingleStageDetector
from fastdet.models.samplers import RandomSampler
from fastdet.registry import MODEL_PARTS, build
from fastdet.structures import Batch, ImageMeta
from tests.golden.configs import dense, dense_direct, dense_refined, guided
from tests.models.helpers import make_targets


def yolox_on_resnet() -> dict[str, Any]:
    """YOLOX's head and training on the features of the others."""
    model = dense_direct.yolox_nano()
    features = dense.retinanet_r18()
    neck = features["neck"] | {"num_outs": 3, "add_extra_convs": False}
    return model | {"backbone": features["backbone"], "neck": neck}


FAMILIES = [
    pytest.param(dense.retinanet_r18, id="retinanet"),
    pytest.param(dense.rpn_r50_caffe, id="rpn"),
    pytest.param(dense_direct.fcos_r50_caffe, id="fcos"),
    pytest.param(dense_direct.fcos_r18, id="fcos in strides"),
    pytest.param(dense_direct.atss_r50, id="atss"),
    pytest.param(dense_direct.gfl_r50, id="gfl"),
    pytest.param(yolox_on_resnet, id="yolox"),
    pytest.param(guided.ga_retinanet, id="ga retinanet"),
    pytest.param(guided.ga_rpn, id="ga rpn"),
    pytest.param(guided.sabl_retinanet, id="sabl retinanet"),
    *(
        pytest.param(getattr(dense_refined, name), id=name)
        for name in ("reppoints", "reppoints_grid", "vfnet", "fovea", "paa", "tood", "tood_later", "free_anchor")
    ),
]
NOT_CLIPPED = (yolox_on_resnet, dense_refined.tood, dense_refined.tood_later)


def tiny(config: Any) -> SingleStageDetector:
    """The family with a thin ResNet-18 and two classes."""
    model = config()
    widths = [8, 16, 32, 64]
    model["backbone"] |= {"depth": 18, "base_channels": 8, "frozen_stages": -1, "init_cfg": None}
    model["neck"] |= {"in_channels": widths, "out_channels": 16}
    head = model.get("bbox_head") or model["rpn_head"]
    head |= {"in_channels": 16, "feat_channels": 16}
    if "bbox_head" in model:
        head["num_classes"] = 2
    if model["type"] in ("FCOS", "ATSS", "GFL", "PAA", "TOOD", "VFNet"):
        head["norm_cfg"] = {"type": "GN", "num_groups": 4}
    torch.manual_seed(0)
    return build(translate_model(model)[0], MODEL_PARTS)


def batch(sizes: list[tuple[int, int]], padded: tuple[int, int]) -> Batch:
    """Seeded images with one object each, but the last, which has none."""
    generator = torch.Generator().manual_seed(5)
    pixels = torch.zeros(len(sizes), 3, *padded, dtype=torch.uint8)
    for i, (h, w) in enumerate(sizes):
        pixels[i, :, :h, :w] = torch.randint(0, 256, (3, h, w), generator=generator, dtype=torch.uint8)
    boxes = [[[4.0, 6.0, 40.0, 50.0]]] * (len(sizes) - 1) + [[]]
    metas = tuple(ImageMeta(i, "", s, s, (1.0, 1.0)) for i, s in enumerate(sizes))
    return Batch(pixels, torch.tensor(sizes), make_targets(boxes, [[1]] * len(sizes)), metas)


@pytest.mark.parametrize("config", FAMILIES)
def test_losses_are_finite_and_train_every_parameter(config: Any) -> None:
    detector = tiny(config).train()
    losses = detector.loss(batch([(64, 96), (50, 70)], (64, 96)), torch.Generator().manual_seed(0))
    assert all("loss" in name for name in losses)
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("config", FAMILIES)
def test_predictions_have_a_fixed_shape_and_lie_in_their_image(config: Any) -> None:
    detector = tiny(config).eval()
    for part in (detector.dense.postprocess,):
        if hasattr(part, "score_thr"):
            part.score_thr = 0.0
    found = detector.predict(batch([(64, 96), (50, 70)], (64, 96)))
    slots = found.scores.shape[1]
    assert found.boxes.shape == (2, slots, 4)
    assert (found.count > 0).all()
    if config not in NOT_CLIPPED:
        assert (found.boxes[1, :, 2] <= 70 + 1e-4).all()  # PAA's means of clipped boxes are rounded
        assert (found.boxes[1, :, 3] <= 50 + 1e-4).all()
    assert (found.scores.diff(dim=1) <= 0).all()
    for scores, count in zip(found.scores, found.count.tolist(), strict=True):
        assert (scores[:count] > 0).all()
        assert (scores[count:] == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("config", FAMILIES)
def test_nothing_between_batch_and_result_depends_on_values(config: Any) -> None:
    with FakeTensorMode() as mode:
        detector = tiny(config).train()
        real = batch([(64, 96), (50, 70)], (64, 96))
    fake = Batch(
        mode.from_tensor(torch.zeros(2, 3, 64, 96, dtype=torch.uint8)),
        mode.from_tensor(torch.tensor([[64, 96], [50, 70]])),
        type(real.targets)(*(mode.from_tensor(torch.zeros(t.shape, dtype=t.dtype)) for t in real.targets[:5])),  # type: ignore[index, union-attr]
        real.metas,
    )
    with mode:
        losses = detector.loss(fake)
        torch.stack(list(losses.values())).sum().backward()
        assert all(p.grad is not None for p in detector.parameters() if p.requires_grad)
        found = detector.eval().predict(fake)
    assert found.count.shape == (2,)


def test_forward_gives_raw_outputs_of_plain_pixels() -> None:
    detector = tiny(dense.retinanet_r18).eval()
    pixels = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    output = detector(pixels)
    assert output.level_sizes == ((8, 8), (4, 4), (2, 2), (1, 1), (1, 1))
    assert output.cls_logits.shape == (1, (64 + 16 + 4 + 1 + 1) * 9, 2)
    torch.testing.assert_close(detector(pixels.float()).cls_logits, output.cls_logits)


def test_the_order_of_sampling_can_be_switched() -> None:
    detector = tiny(dense.rpn_r50_caffe)
    assert isinstance(detector.dense.sampler, RandomSampler)
    set_sampling_order(detector, "index")
    assert detector.dense.sampler.order == "index"
    images = batch([(64, 96), (50, 70)], (64, 96))
    detector.train()
    assert torch.equal(detector.loss(images)["loss_rpn_cls"], detector.loss(images)["loss_rpn_cls"])


def test_a_detector_without_training_parts_predicts_only() -> None:
    model = dense.retinanet_r18() | {"train_cfg": None}
    with torch.device("meta"):
        detector = build(translate_model(model)[0], MODEL_PARTS)
    assert detector.dense.assigner is None
    images = batch([(32, 32)], (32, 32))
    with pytest.raises(ValueError, match="without train_cfg"):
        detector.dense.loss(None, images.sizes, images.sizes, images.targets)
    with pytest.raises(ValueError, match="batch with targets"):
        detector.loss(images._replace(targets=None))


def test_the_criterion_is_told_which_epoch_begins() -> None:
    detector = tiny(dense_refined.tood)
    seen = {}
    for epoch in (3, 4, 0):
        detector.start_epoch(epoch)
        seen[epoch] = detector.train().loss(batch([(64, 96), (64, 96)], (64, 96)))["loss_cls"].item()
    assert seen[3] == seen[0] != seen[4]
    tiny(dense.retinanet_r18).start_epoch(1)  # most criteria are the same for ever
