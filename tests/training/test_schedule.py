from __future__ import annotations

import itertools
import math

import pytest
import torch

from training.schedule import learning_rate_factor, step_generator, validation_generator


def test_learning_rate_warms_up_over_5_percent_then_falls_as_a_cosine() -> None:
    factors = [learning_rate_factor(step, 200) for step in range(200)]
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert max(factors) == 1.0
    # Half way between warm-up's end (10) and the end (200) a cosine is at one half.
    assert factors[105] == pytest.approx(0.5)
    assert factors[199] == pytest.approx(0.5 * (1 + math.cos(math.pi * 189 / 190)))
    assert all(a >= b for a, b in itertools.pairwise(factors[9:]))


def test_a_line_and_a_constant_after_the_warm_up() -> None:
    for shape, last in (("linear", 1 / 90), ("constant", 1.0)):
        factors = [learning_rate_factor(step, 100, shape=shape, warmup_share=0.1) for step in range(100)]
        assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
        assert factors[10] == 1.0
        assert factors[99] == pytest.approx(last)
    assert learning_rate_factor(55, 100, shape="linear", warmup_share=0.1) == pytest.approx(0.5)
    assert learning_rate_factor(0, 100, shape="constant", warmup_share=0.0) == 1.0


def test_the_shortest_training_still_learns() -> None:
    assert learning_rate_factor(0, 1) == 1.0


def test_a_step_draws_the_same_numbers_always_and_no_other_steps() -> None:
    def draws(step: int, seed: int) -> torch.Tensor:
        return torch.randn(4, generator=step_generator(step, seed=seed))

    assert torch.equal(draws(5, 0), draws(5, 0))
    assert not torch.equal(draws(5, 0), draws(6, 0))
    assert not torch.equal(draws(5, 0), draws(5, 1))


def test_validation_has_random_numbers_of_its_own() -> None:
    first, again, other, step = (
        torch.randn(4, generator=each)
        for each in (
            validation_generator(1, seed=0),
            validation_generator(1, seed=0),
            validation_generator(2, seed=0),
            step_generator(1, seed=0),
        )
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other) and not torch.equal(first, step)
