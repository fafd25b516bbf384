from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch

from training.schedule import batch_indices, learning_rate_factor, step_generator


def seen(num_steps: int, batch: int, repeats: list[int], seed: int = 3) -> list[int]:
    return [
        index
        for step in range(num_steps)
        for index in batch_indices(step, batch=batch, repeats=repeats, seed=seed)
    ]


def test_every_image_is_seen_equally_often_at_every_moment() -> None:
    # 7 images in batches of 4: borders of epochs fall inside batches.
    for num_steps in range(1, 30):
        counts = Counter(seen(num_steps, 4, [1] * 7))
        numbers = [counts[i] for i in range(7)]
        assert max(numbers) - min(numbers) <= 1


def test_repeats_are_exact_over_whole_epochs() -> None:
    counts = Counter(seen(10, 6, [1, 2, 3]))  # 60 draws: 10 epochs of 6
    assert [counts[i] for i in range(3)] == [10, 20, 30]


def test_the_order_changes_with_the_epoch_and_the_seed_only() -> None:
    assert seen(5, 4, [1] * 20) == seen(5, 4, [1] * 20)
    assert seen(5, 4, [1] * 20) != seen(5, 4, [1] * 20, seed=4)
    orders = {tuple(batch_indices(epoch, batch=20, repeats=[1] * 20, seed=0)) for epoch in range(5)}
    assert len(orders) == 5


def test_learning_rate_warms_up_over_5_percent_then_falls_as_a_cosine() -> None:
    factors = [learning_rate_factor(step, 200) for step in range(200)]
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert max(factors) == 1.0
    # Half way between warm-up's end (10) and the end (200) a cosine is at one half.
    assert factors[105] == pytest.approx(0.5)
    assert factors[199] == pytest.approx(0.5 * (1 + math.cos(math.pi * 189 / 190)))
    assert all(a >= b for a, b in itertools.pairwise(factors[9:]))


def test_the_shortest_training_still_learns() -> None:
    assert learning_rate_factor(0, 1) == 1.0


def test_a_step_draws_the_same_numbers_always_and_no_other_steps() -> None:
    def draws(step: int, seed: int) -> torch.Tensor:
        return torch.randn(4, generator=step_generator(step, seed=seed))

    assert torch.equal(draws(5, 0), draws(5, 0))
    assert not torch.equal(draws(5, 0), draws(6, 0))
    assert not torch.equal(draws(5, 0), draws(5, 1))
