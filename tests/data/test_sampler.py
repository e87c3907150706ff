"""Batches of an epoch: every image, equal shares, orientations apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdet.data.sampler import BatchSampler, sample_rng


def test_without_shuffling_images_come_in_order() -> None:
    batches = BatchSampler(num_images=5, batch_size=2, seed=0).batches(0)
    assert [[draw.image for draw in batch] for batch in batches] == [[0, 1], [2, 3], [4]]
    assert [draw.position for batch in batches for draw in batch] == [0, 1, 2, 3, 4]


def test_epochs_differ_and_repeat_themselves() -> None:
    sampler = BatchSampler(num_images=50, batch_size=4, seed=1, shuffle=True)
    assert sampler.batches(0) == sampler.batches(0)
    assert sampler.batches(0) != sampler.batches(1)
    assert sampler.batches(0) != BatchSampler(num_images=50, batch_size=4, seed=2, shuffle=True).batches(0)


def test_groups_hold_one_orientation_but_for_the_rest() -> None:
    portrait = np.arange(40) % 3 == 0
    batches = BatchSampler(num_images=40, batch_size=4, seed=5, shuffle=True, portrait=portrait).batches(0)
    kinds = [{bool(portrait[d.image]) for d in batch} for batch in batches]
    # 14 upright and 26 others make 3 + 6 full batches; 2 + 2 are left over for a mixed one.
    assert [len(k) for k in kinds].count(1) == 9
    assert sorted(d.image for batch in batches for d in batch) == list(range(40))


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 40), st.integers(1, 6), st.integers(1, 5), st.booleans(), st.booleans(), st.booleans(),
    st.integers(0, 3),
)  # fmt: skip
def test_processes_share_every_epoch(
    num_images: int, batch_size: int, world_size: int, even: bool, grouped: bool, drop_last: bool, epoch: int
) -> None:
    portrait = np.random.default_rng(0).random(num_images) < 0.4 if grouped else None
    samplers = [
        BatchSampler(
            num_images=num_images, batch_size=batch_size, seed=3, shuffle=True, even=even, drop_last=drop_last,
            portrait=portrait, rank=rank, world_size=world_size,
        )
        for rank in range(world_size)
    ]  # fmt: skip
    shares = [sampler.batches(epoch) for sampler in samplers]
    assert [len(share) for share in shares] == [len(sampler) for sampler in samplers]
    assert all(len(batch) == batch_size for share in shares for batch in share[:-1])
    draws = [draw for share in shares for batch in share for draw in batch]
    assert len({draw.position for draw in draws}) == len(draws)
    if even:
        assert len({len(share) for share in shares}) == 1
    if not drop_last:
        assert {draw.image for draw in draws} == set(range(num_images))
        if not even:
            assert len(draws) == num_images


def test_a_samples_chance_depends_on_three_numbers() -> None:
    draws = {
        (seed, epoch, position): sample_rng(seed, epoch, position).random()
        for seed in (0, 1) for epoch in (0, 1) for position in (0, 1, 2**31)
    }  # fmt: skip
    assert len(set(draws.values())) == len(draws)
    assert sample_rng(1, 1, 1).random() == draws[1, 1, 1]


def test_wrong_ranks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rank must lie in \[0, 2\), not 2"):
        BatchSampler(num_images=4, batch_size=1, seed=0, rank=2, world_size=2)


def test_classes_take_turns_with_their_next_images() -> None:
    images = [np.array([0, 1, 2, 3]), np.array([], np.int64), np.array([4]), np.array([5, 6])]
    sampler = BatchSampler(num_images=12, batch_size=6, seed=0, shuffle=True, class_images=images, images_per_class=2)
    order = [draw.image for batch in sampler.batches(0) for draw in batch]
    kinds = [0 if image < 4 else 1 if image == 4 else 2 for image in order]
    pairs = kinds[::2]
    assert kinds == [kind for kind in pairs for _ in range(2)]
    assert sorted(pairs[:3]) == sorted(pairs[3:]) == [0, 1, 2]
    assert sorted(image for image in order if image < 4) == [0, 1, 2, 3]
    assert [draw.position for batch in sampler.batches(0) for draw in batch] == list(range(12))
    assert sampler.batches(0) == sampler.batches(0)
    assert sampler.batches(0) != sampler.batches(1)
    with pytest.raises(ValueError, match="needs images with objects"):
        BatchSampler(num_images=1, batch_size=1, seed=0, class_images=[np.array([], np.int64)]).batches(0)
