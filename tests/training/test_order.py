"""Equal exposure: per concept and per image, whatever folders and buckets there are."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.order import WINDOW_STEPS, counts, grouped, realised, run_order

FOLDERS = st.lists(st.tuples(st.floats(0.2, 5.0), st.integers(1, 30)), min_size=1, max_size=5)


def concepts_of(folders: list[tuple[float, int]]) -> list[int]:
    return [index for index, (_, n) in enumerate(folders) for _ in range(n)]


@given(FOLDERS, st.integers(1, 3000))
def test_concepts_and_images_get_their_shares_over_the_whole_run(
    folders: list[tuple[float, int]], total: int
) -> None:
    weights, concepts = [w for w, _ in folders], concepts_of(folders)
    times = counts(weights, concepts, total)
    assert sum(times) == total
    for index, (weight, _) in enumerate(folders):
        own = [n for n, concept in zip(times, concepts, strict=True) if concept == index]
        assert abs(sum(own) - total * weight / sum(weights)) < 1 + 1e-6
        assert max(own) - min(own) <= 1


def test_a_concept_without_images_takes_no_part() -> None:
    assert counts([1.0, 1.0], [0, 0], 10) == [5, 5]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(0, 5))
def test_the_order_holds_the_counts_and_spreads_each_image_evenly(times: list[int], seed: int) -> None:
    order = run_order(times, seed=seed)
    assert realised(order, len(times), len(order)) == times
    total = len(order)
    for i, n in enumerate(times):
        shown = np.cumsum(order == i)
        wanted = n * (np.arange(total) + 1) / total
        # One turn in each of n stretches: at most one off by itself. Places are ranks of keys that others
        # scatter as well, each by less than one of its own turns.
        assert np.abs(shown - wanted).max() <= 1 + n * len(times) / total


def test_images_of_one_folder_stay_together_at_every_moment() -> None:
    order = run_order([25] * 7, seed=3)
    for shown in range(len(order) + 1):
        seen = realised(order, 7, shown)
        assert max(seen) - min(seen) <= 2


BUCKETS = st.lists(st.integers(0, 3), min_size=1, max_size=25)


@given(BUCKETS, st.integers(1, 8), st.integers(1, 60), st.integers(0, 3))
def test_buckets_move_nothing_out_of_its_stretch(
    buckets: list[int], batch: int, steps: int, seed: int
) -> None:
    """So exposure is the same as without buckets, over the run and at the end of each stretch."""
    times = counts([1.0], [0] * len(buckets), steps * batch)
    order = run_order(times, seed=seed)
    moved = grouped(order, buckets, batch=batch, seed=seed)
    stretch = WINDOW_STEPS * batch
    for start in range(0, len(order), stretch):
        assert Counter(moved[start : start + stretch].tolist()) == Counter(
            order[start : start + stretch].tolist()
        )


@given(BUCKETS, st.integers(1, 8), st.integers(0, 3))
def test_most_batches_have_one_size(buckets: list[int], batch: int, seed: int) -> None:
    times = counts([1.0], [0] * len(buckets), 3 * WINDOW_STEPS * batch)
    moved = grouped(run_order(times, seed=seed), buckets, batch=batch, seed=seed)
    kinds = len(set(buckets))
    for start in range(0, len(moved), WINDOW_STEPS * batch):
        batches = moved[start : start + WINDOW_STEPS * batch].reshape(WINDOW_STEPS, batch)
        mixed = sum(len({buckets[i] for i in row}) > 1 for row in batches.tolist())
        assert mixed < kinds or kinds == 1  # what is left of k buckets is less than k batches


def test_a_lone_picture_of_an_odd_shape_is_shown_as_often_as_the_others() -> None:
    """The trap: 20 squares and one wide picture, batches of 4."""
    buckets = [0] * 20 + [1]
    times = counts([1.0], [0] * 21, 500 * 4)
    moved = grouped(run_order(times, seed=0), buckets, batch=4, seed=0)
    seen = realised(moved, 21, len(moved))
    assert max(seen) - min(seen) <= 1
    assert seen[20] == pytest.approx(2000 / 21, abs=1)


def test_the_order_changes_with_the_seed_only() -> None:
    assert run_order([3] * 9, seed=1).tolist() == run_order([3] * 9, seed=1).tolist()
    assert run_order([3] * 9, seed=1).tolist() != run_order([3] * 9, seed=2).tolist()
    with pytest.raises(ValueError, match="no examples"):
        run_order([0], seed=0)
