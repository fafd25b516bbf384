"""A loss that rises for good is told once a stretch; one that sways or falls is not."""

from __future__ import annotations

import numpy as np
import pytest

from training.divergence import IMAGES, divergence


def told(losses: list[float], *, images: int) -> list[tuple[int, str]]:
    """(step, line) of a whole run."""
    lines = [(step, divergence(losses[:step], images=images)) for step in range(1, len(losses) + 1)]
    return [(step, line) for step, line in lines if line is not None]


def noisy(levels: list[float], *, images: int, seed: int = 0) -> list[float]:
    """A stretch of losses around each level; an image's loss sways by 1.3 times its mean (min-SNR off)."""
    rng, sigma = np.random.default_rng(seed), np.sqrt(np.log(1.0 + 1.3**2))
    steps = -(-IMAGES // images)
    return [
        level * float(loss)
        for level in levels
        for loss in rng.lognormal(-(sigma**2) / 2, sigma, (steps, images)).mean(axis=1)
    ]


@pytest.mark.parametrize("images", [1, 3, 8])
@pytest.mark.parametrize("levels", [[0.6, 0.4, 0.3, 0.25], [0.3, 0.3, 0.36, 0.3], [0.5], []])
def test_a_loss_that_falls_or_sways_is_no_divergence(levels: list[float], images: int) -> None:
    assert told(noisy(levels, images=images), images=images) == []


@pytest.mark.parametrize("seed", range(4))
def test_a_long_run_at_a_batch_of_one_raises_no_alarm_by_chance(seed: int) -> None:
    losses = noisy([0.3] * 25, images=1, seed=seed)  # 10,000 steps
    assert [s for s in range(IMAGES, len(losses) + 1, IMAGES) if divergence(losses[:s], images=1)] == []


@pytest.mark.parametrize("images", [1, 8, 1000])
def test_a_loss_that_trebles_is_told(images: int) -> None:
    ((step, line),) = told(noisy([0.5, 0.3, 0.4, 1.2], images=images), images=images)
    assert step == 4 * -(-IMAGES // images)
    assert "times what it was before" in line and "train.lr" in line


def test_it_is_told_again_as_long_as_it_lasts() -> None:
    steps = IMAGES // 8
    said = told(noisy([0.3, 0.3, 0.3, 1.2, 1.2, 0.3], images=8), images=8)
    assert [step for step, _ in said] == [4 * steps, 5 * steps]
