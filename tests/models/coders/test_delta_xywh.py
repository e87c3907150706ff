"""The box coder: hand-computed deltas and boxes."""

import math

import pytest
import torch

from fastdet.models.coders import DeltaXYWHBBoxCoder


def test_encode_gives_shift_and_log_ratio() -> None:
    coder = DeltaXYWHBBoxCoder()
    deltas = coder.encode(torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[5.0, 5, 25, 15]]))
    # centres (5, 10) -> (15, 10); sizes (10, 20) -> (20, 10)
    torch.testing.assert_close(deltas, torch.tensor([[1.0, 0.0, math.log(2), -math.log(2)]]))


def test_means_and_stds_normalise() -> None:
    coder = DeltaXYWHBBoxCoder((0.5, 0, 0, 0), (0.1, 0.1, 0.2, 0.2))
    deltas = coder.encode(torch.tensor([0.0, 0, 10, 20]), torch.tensor([5.0, 5, 25, 15]))
    torch.testing.assert_close(deltas, torch.tensor([5.0, 0.0, 5 * math.log(2), -5 * math.log(2)]))


def test_decode_inverts_encode_on_any_leading_dimensions() -> None:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(2, 3, 5, 2, generator=generator) * 50
    boxes = torch.cat((corner, corner + 1 + torch.rand(2, 3, 5, 2, generator=generator) * 40), dim=-1)
    references = boxes.flip(2)
    coder = DeltaXYWHBBoxCoder((0.1, 0.2, 0.3, 0.4), (0.1, 0.1, 0.2, 0.2))
    decoded = coder.decode(references, coder.encode(references, boxes))
    torch.testing.assert_close(decoded, boxes, rtol=1e-5, atol=1e-4)


def test_references_broadcast_against_deltas_of_each_class() -> None:
    coder = DeltaXYWHBBoxCoder()
    references = torch.tensor([[[[0.0, 0, 10, 10]]]])  # [1, 1, 1, 4]
    deltas = torch.zeros(1, 1, 3, 4)
    deltas[..., 1, 0] = 1
    assert coder.decode(references, deltas)[0, 0].tolist() == [[0, 0, 10, 10], [10, 0, 20, 10], [0, 0, 10, 10]]


def test_boxes_are_clipped_to_the_size_of_their_own_image() -> None:
    coder = DeltaXYWHBBoxCoder()
    references = torch.tensor([[-5.0, -5, 100, 100]])
    sizes = torch.tensor([[20, 30], [200, 50]])
    decoded = coder.decode(references, torch.zeros(2, 1, 4), sizes)
    assert decoded[:, 0].tolist() == [[0, 0, 30, 20], [0, 0, 50, 100]]
    unclipped = DeltaXYWHBBoxCoder(clip_border=False).decode(references, torch.zeros(2, 1, 4), sizes)
    assert unclipped[1, 0].tolist() == [-5, -5, 100, 100]


def test_sizes_change_by_at_most_the_clip_ratio() -> None:
    decoded = DeltaXYWHBBoxCoder().decode(torch.tensor([0.0, 0, 16, 16]), torch.tensor([0.0, 0, 100, -100]))
    width, height = (decoded[2:] - decoded[:2]).tolist()
    assert width == pytest.approx(16 * 62.5)
    assert height == pytest.approx(16 * 0.016, rel=1e-4)


def test_the_centre_clamp_limits_shifts_in_pixels_and_lets_boxes_shrink() -> None:
    coder = DeltaXYWHBBoxCoder(add_ctr_clamp=True, ctr_clamp=32)
    decoded = coder.decode(torch.tensor([0.0, 0, 100, 100]), torch.tensor([5.0, -5, 0, -10]))
    x1, y1, x2, y2 = decoded.tolist()
    assert (x1 + x2) / 2 == pytest.approx(82)
    assert (y1 + y2) / 2 == pytest.approx(18)
    assert y2 - y1 == pytest.approx(100 * math.exp(-10), abs=1e-4)


def test_no_boxes_give_no_boxes() -> None:
    assert DeltaXYWHBBoxCoder().decode(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)


def test_wrong_stds_are_refused() -> None:
    with pytest.raises(ValueError, match="target_stds must be positive"):
        DeltaXYWHBBoxCoder(target_stds=(1, 1, 0, 1))
    with pytest.raises(ValueError, match="target_means needs four numbers"):
        DeltaXYWHBBoxCoder(target_means=(0,))
