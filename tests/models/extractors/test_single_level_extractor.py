"""Which pyramid level a RoI is pooled from."""

import pytest
import torch

from fastdet.models.extractors import SingleRoIExtractor


def pyramid():
    """Four levels of a 512 x 512 image, each filled with its number."""
    return [
        torch.full((1, 2, 512 // stride, 512 // stride), float(level)) for level, stride in enumerate((4, 8, 16, 32))
    ]


def squares(*sides):
    return torch.tensor([[0.0, 100.0, 100.0, 100.0 + side, 100.0 + side] for side in sides])


def test_levels_change_at_112_224_and_448_pixels():
    extractor = SingleRoIExtractor((4, 8, 16, 32))
    pooled = extractor(pyramid(), squares(8, 111.9, 112.1, 223.9, 224.1, 400))
    assert pooled.shape == (6, 2, 7, 7)
    assert pooled[:, 0, 3, 3].tolist() == pytest.approx([0, 0, 1, 1, 2, 2])
    assert extractor(pyramid(), torch.tensor([[0.0, 10, 10, 459, 459]]))[0, 0, 3, 3].item() == pytest.approx(3)


def test_the_area_decides_not_the_longer_side():
    pooled = SingleRoIExtractor((4, 8, 16, 32))(
        pyramid(), torch.tensor([[0.0, 100, 100, 400, 140]])
    )  # sqrt(12000) < 112
    assert pooled[0, 0, 3, 3] == 0


def test_levels_beyond_the_strides_are_left_out():
    features = [*pyramid(), torch.full((1, 2, 8, 8), 9.0)]
    pooled = SingleRoIExtractor((4, 8, 16, 32), output_size=3)(features, torch.tensor([[0.0, 0, 0, 512, 512]]))
    assert pooled.shape == (1, 2, 3, 3)
    assert pooled[0, 0, 1, 1].item() == pytest.approx(3)


def test_one_stride_pools_every_box_from_its_level():
    pooled = SingleRoIExtractor((16,), output_size=2)([torch.full((1, 3, 32, 32), 5.0)], squares(8, 400))
    torch.testing.assert_close(pooled, torch.full_like(pooled, 5.0))


def test_without_alignment_coordinates_are_not_shifted_by_half_a_cell():
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    box = torch.tensor([[0.0, 4.0, 4.0, 8.0, 8.0]])
    aligned, plain = (SingleRoIExtractor((1,), output_size=1, aligned=a)([ramp], box).item() for a in (True, False))
    assert aligned == pytest.approx(5.5)
    assert plain == pytest.approx(6.0)


def test_no_strides_are_refused():
    with pytest.raises(ValueError, match="featmap_strides must name at least one level"):
        SingleRoIExtractor(())
