"""The stage's benchmark: two processes render what they are asked, and the row is plain arithmetic."""

from __future__ import annotations

import pytest

from benchmarks.stage import Share, measure, row


def test_row_is_images_over_seconds() -> None:
    figures = row([Share(30, 2.0, 1.5), Share(30, 3.0, 1.5)])
    assert figures == {
        "processes": 2,
        "images/s": 20.0,
        "images/s by processor time": 40.0,
        "ms of a core per image": pytest.approx(50.0),
    }


def test_two_processes_render_together() -> None:
    shares = measure(2, num_frames=2, size=16)
    assert [share.num_frames for share in shares] == [2, 2]
    assert all(share.seconds > 0.0 and share.cpu_seconds > 0.0 for share in shares)
