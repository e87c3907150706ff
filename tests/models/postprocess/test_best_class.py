"""BestClassPostprocess: one candidate a prior, scores times qualities."""

from typing import Any

import pytest
import torch
from torch import Tensor

from fastdet.models.coders import CellBBoxCoder
from fastdet.models.postprocess import BestClassPostprocess, DensePostprocess
from fastdet.structures import DenseOutput

CELLS = torch.tensor([[0.0, 0, 8, 8], [1, 0, 9, 8], [16, 0, 24, 8]])
LOGITS = torch.tensor([[[2.0, 1.0], [1.0, 0.0], [0.0, 1.0]]])
OUTPUT = DenseOutput(LOGITS, torch.tensor([0.5, 0.5, 0, 0]).expand(1, 3, 4), ((1, 3),), torch.tensor([[0.0, 3.0, 3.0]]))


def test_each_prior_stands_for_its_best_class() -> None:
    found = BestClassPostprocess(0.65)(OUTPUT, CELLS, CellBBoxCoder(), torch.tensor([[8, 24]]))
    assert found.boxes.shape == (1, 3, 4)
    assert found.count.tolist() == [2]  # the first two overlap by 7 / 9 and have one class
    assert found.labels[0, :2].tolist() == [0, 1]
    expected = torch.tensor(1.0).sigmoid() * torch.tensor(3.0).sigmoid()
    torch.testing.assert_close(found.scores[0], torch.stack((expected, expected, torch.tensor(0.0))))


def test_low_scores_are_left_out_and_the_number_may_be_bounded() -> None:
    part = BestClassPostprocess(0.9, score_thr=0.5, max_per_img=1)
    found = part(OUTPUT, CELLS, CellBBoxCoder(), torch.tensor([[8, 24]]))
    assert found.boxes[0].tolist() == [[1, 0, 9, 8]]


@pytest.mark.parametrize(
    "options",
    [{}, {"score_thr": 0.5}, {"score_thr": 0.25, "max_per_img": 7}, {"score_thr": 0.1, "class_agnostic": True}],
)
@pytest.mark.parametrize("with_quality", [True, False])
def test_the_fused_op_gives_what_the_steps_give(options: dict[str, Any], with_quality: bool) -> None:
    generator = torch.Generator().manual_seed(0)

    def coarse(*shape: int) -> Tensor:  # so that scores often equal each other and the threshold
        return torch.randint(-3, 4, shape, generator=generator).float()

    sizes = ((6, 7), (3, 4))
    logits, quality, deltas = coarse(2, 54, 5), coarse(2, 54), 0.5 * torch.randn(2, 54, 4, generator=generator)
    logits[0, 3], quality[1, 4], logits[1, 6, 2] = -torch.inf, torch.inf, torch.nan
    corner = 20 * torch.rand(54, 2, generator=generator)
    priors = torch.cat((corner, corner + 8), dim=1)
    output = DenseOutput(logits, deltas, sizes, quality if with_quality else None)
    part, coder, image_sizes = BestClassPostprocess(0.4, **options), CellBBoxCoder(), torch.tensor([[40, 40], [30, 30]])
    fused, steps = part(output, priors, coder, image_sizes), part._composed(output, priors, coder, image_sizes)
    assert fused.count.tolist() == steps.count.tolist()
    assert torch.equal(fused.labels, steps.labels)
    torch.testing.assert_close(fused.scores, steps.scores)
    torch.testing.assert_close(fused.boxes, steps.boxes)


def test_pairs_of_prior_and_class_have_qualities_too() -> None:
    part = DensePostprocess(5, 0.65, score_thr=0.7)
    found = part(OUTPUT, CELLS, CellBBoxCoder(), torch.tensor([[8, 24]]))
    # the threshold looks at class scores; the order is that of the products
    assert found.count.tolist() == [3]
    assert found.labels[0, :3].tolist() == [0, 1, 1]
    products = LOGITS[0].sigmoid() * OUTPUT.quality[0].sigmoid()[:, None]  # type: ignore[index]
    torch.testing.assert_close(found.scores[0, :3], torch.stack((products[1, 0], products[2, 1], products[0, 1])))
