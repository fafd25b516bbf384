"""A loss that rises for good is told once a stretch; one that sways or falls is not."""

from __future__ import annotations

import numpy as np
import pytest

from training.divergence import STRETCH, divergence


def told(losses: list[float]) -> list[tuple[int, str]]:
    """(step, line) of a whole run."""
    lines = [(step, divergence(losses[:step])) for step in range(1, len(losses) + 1)]
    return [(step, line) for step, line in lines if line is not None]


def noisy(levels: list[float]) -> list[float]:
    """A stretch of losses around each level; single steps sway by a third, as they do in training."""
    rng = np.random.default_rng(0)
    return [level * float(factor) for level in levels for factor in rng.lognormal(0.0, 0.33, STRETCH)]


@pytest.mark.parametrize("levels", [[0.6, 0.4, 0.3, 0.25], [0.3, 0.3, 0.36, 0.3], [0.5], []])
def test_a_loss_that_falls_or_sways_is_no_divergence(levels: list[float]) -> None:
    assert told(noisy(levels)) == []


def test_a_loss_that_trebles_is_told_with_where_it_was_least() -> None:
    ((step, line),) = told(noisy([0.5, 0.3, 0.4, 0.95]))
    assert step == 4 * STRETCH
    assert "3." in line and "steps 51 to 100" in line and "train.lr" in line


def test_it_is_told_again_as_long_as_it_lasts() -> None:
    assert [step for step, _ in told(noisy([0.3, 1.0, 1.0, 0.3]))] == [2 * STRETCH, 3 * STRETCH]
