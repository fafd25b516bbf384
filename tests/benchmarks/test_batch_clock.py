"""The arithmetic of `benchmarks.batch`: what counts as work, and what as everything else."""

from __future__ import annotations

import pytest

from benchmarks.batch import at_work, length, processor_at_work, without


def test_each_moment_counts_once() -> None:
    assert length([(0.0, 2.0), (1.0, 3.0), (5.0, 6.0)]) == pytest.approx(4.0)
    assert without([(0.0, 4.0), (6.0, 8.0)], [(1.0, 2.0), (3.0, 7.0)]) == [(0.0, 1.0), (2.0, 3.0), (7.0, 8.0)]


def test_reading_in_the_midst_of_carrying_is_no_work_unless_the_model_works_beside_it() -> None:
    spans = {
        "model": [(2, 0.0, 2.0, 1.9)],
        "carry": [(1, 1.0, 6.0, 4.0), (1, 3.5, 4.0, 0.3), (4, 3.0, 4.0, 0.8)],
        # one within another; the last by a thread that does not carry
        "read": [(1, 1.5, 3.0, 0.5), (1, 2.0, 2.5, 0.2), (1, 5.0, 5.5, 0.4), (3, 3.0, 4.0, 0.9)],
    }
    # 0 to 2 the model, 3 to 5 and 5.5 to 6 carrying
    assert at_work(spans) == pytest.approx(4.5)
    assert processor_at_work(spans) == pytest.approx(1.9 + 4.0 - 0.5 - 0.4 + 0.8)
