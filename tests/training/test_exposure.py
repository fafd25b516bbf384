"""Repeats are worked out so that shares follow the weights."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DatasetError
from training.exposure import MAX_REPEATS, TOLERANCE, balanced_repeats


def test_equal_folders_need_no_repeats() -> None:
    assert balanced_repeats([1.0, 1.0, 1.0], [20, 20, 20]) == (1, 1, 1)
    assert balanced_repeats([5.0], [7]) == (1,)


@given(st.lists(st.tuples(st.floats(0.5, 2.0), st.integers(10, 40)), min_size=1, max_size=4))
def test_shares_follow_the_weights(concepts: list[tuple[float, int]]) -> None:
    """Exposures per weight differ by the tolerance at most: upwards in one concept, downwards in another."""
    weights, counts = [w for w, _ in concepts], [n for _, n in concepts]
    repeats = balanced_repeats(weights, counts)
    per_weight = [r * n / w for r, n, w in zip(repeats, counts, weights, strict=True)]
    assert all(1 <= r <= MAX_REPEATS for r in repeats)
    # Up to ratio 16 there is room for six scales or more; the nearest is within half a repeat of the least.
    least_error = max(TOLERANCE, 0.5 / (MAX_REPEATS / 16.0))
    assert max(per_weight) / min(per_weight) <= (1 + least_error) / (1 - least_error)


def test_a_share_out_of_reach_is_told() -> None:
    with pytest.raises(DatasetError, match=r"500 times as often as others; at most 100"):
        balanced_repeats([1.0, 1.0], [1, 500])
