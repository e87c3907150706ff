"""Guided anchors: their shapes, which of them are looked at, and that gradients go where they should."""

import torch

from fastdet.compat.models import translate_model
from fastdet.models.coders import DeltaXYWHBBoxCoder
from fastdet.models.heads.guided_anchor import FeatureAdaption, GuidedOutput
from fastdet.models.priors import AnchorGenerator
from fastdet.models.stages import AnchorGuide
from fastdet.registry import MODEL_PARTS, build
from fastdet.structures import DenseOutput
from tests.golden.configs import guided
from tests.models.detectors.test_single_stage import batch, tiny

SIZES = [(64, 96), (64, 64)]


def make_guide(**options):
    squares = AnchorGenerator([8], [1.0], scales=[4])
    shapes = AnchorGenerator([8], [0.5, 1.0, 2.0], octave_base_scale=4, scales_per_octave=3)
    return AnchorGuide(squares, shapes, DeltaXYWHBBoxCoder(), **options)


def make_output(locations, shapes):
    """One level of 1 x 2 cells."""
    return DenseOutput(torch.tensor(locations).view(1, 2, 1), torch.tensor(shapes).view(1, 2, 2), ((1, 2),))


def test_an_anchor_is_its_square_times_the_exponentials_of_its_shape():
    output = make_output([0.0, 0.0], [0.0, 0.0, 0.6931472, -0.6931472])
    anchors = make_guide().anchors(output)
    torch.testing.assert_close(anchors, torch.tensor([[[-16.0, -16.0, 16.0, 16.0], [-24.0, -8.0, 40.0, 8.0]]]))


def test_cells_whose_location_is_unlikely_are_not_looked_at():
    assert make_guide().likely(make_output([-4.7, -4.5], [0.0] * 4)).tolist() == [[False, True]]  # 0.009 and 0.011
    assert make_guide(loc_filter_thr=0.02).likely(make_output([-4.7, -4.5], [0.0] * 4)).tolist() == [[False, False]]


def test_a_cell_takes_part_if_one_of_its_approximations_is_inside():
    """Squares of 32 pixels reach 16 over the border; flatter ones reach less in height, but more in width."""
    output = make_output([0.0, 0.0], [0.0] * 4)
    size, padded = torch.tensor([[64, 64]]), torch.tensor([[8, 8]])
    assert make_guide().candidates(output, size, padded).tolist() == [[True, False]]
    assert make_guide(allowed_border=16).candidates(output, size, size).tolist() == [[True, True]]
    assert make_guide(allowed_border=10).candidates(output, size, size).tolist() == [[False, False]]


def test_features_are_adapted_without_a_gradient_to_the_shapes():
    torch.manual_seed(0)
    layer, shape = FeatureAdaption(8, 8), torch.randn(1, 2, 5, 5, requires_grad=True)
    x = torch.randn(1, 8, 5, 5)
    assert not torch.allclose(layer(x, shape), layer(x, torch.zeros_like(shape)))
    layer(x, shape).sum().backward()
    assert shape.grad is None
    assert layer.conv_offset.weight.grad is not None


def test_guided_proposals_feed_a_second_stage():
    model = guided.ga_faster_rcnn()
    model["backbone"] |= {"base_channels": 8, "frozen_stages": -1, "init_cfg": None}
    model["neck"] |= {"in_channels": [8, 16, 32, 64], "out_channels": 16}
    model["rpn_head"] |= {"in_channels": 16, "feat_channels": 16}
    model["roi_head"]["bbox_head"] |= {"in_channels": 16, "fc_out_channels": 16}
    torch.manual_seed(0)
    detector = build(translate_model(model)[0], MODEL_PARTS).train()
    losses = detector.loss(batch(SIZES, (64, 96)))
    assert set(losses) == {
        *(f"loss_{name}" for name in ("rpn_cls", "rpn_bbox", "cls", "bbox")),
        *(f"rpn_loss_anchor_{name}" for name in ("shape", "loc")),
        "acc",
    }
    assert all(value.isfinite() for value in losses.values())


def test_prediction_leaves_out_unlikely_cells_and_training_does_not():
    detector = tiny(guided.ga_rpn)
    torch.nn.init.constant_(detector.bbox_head.conv_loc.bias, -20.0)
    output = detector.bbox_head(detector.features(*batch(SIZES, (64, 96))[:2]))
    assert isinstance(output, GuidedOutput)
    sizes = torch.tensor(SIZES)
    assert detector.dense.eval().predict(output, sizes).count.tolist() == [0, 0]
    assert (detector.dense.train().predict(output, sizes).count > 0).all()
