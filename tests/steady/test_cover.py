"""Key frames by greedy cover, on motion that is known by construction."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.image import Float32Array
from pipeline.steady.cover import CELL, Cover, choose, follow
from pipeline.steady.metrics import Step

H, W = 16, 24


def pan(pixels: float, *, count: int) -> list[Step]:
    """Steps t -> t - 1 of a camera that goes right: new surface comes in at the right edge."""
    flow = np.zeros((H, W, 2), np.float32)
    flow[..., 0] = pixels
    seen = np.broadcast_to(np.arange(W) + pixels <= W - 0.5, (H, W))
    return [Step(flow, seen.copy()) for _ in range(count)]


def weights(count: int) -> list[Float32Array]:
    return [np.ones((H, W), np.float32)] * count


def covered(steps: list[Step], *, reach: int, forced: tuple[int, ...] = ()) -> Cover:
    return choose(follow((H, W), steps), weights(len(steps) + 1), reach=reach, forced=forced)


def test_tracks_follow_slow_motion() -> None:
    """A quarter of a pixel a frame adds up: after eight frames a track is two pixels further left."""
    tracks = follow((H, W), pan(0.25, count=8))
    np.testing.assert_array_equal(tracks[8][:, : W - 2 * CELL], tracks[0][:, 2 : W - 2 * CELL + 2])


def test_what_was_not_seen_begins_tracks() -> None:
    tracks = follow((H, W), pan(4.0, count=1))
    old = set(np.unique(tracks[0]))
    assert set(np.unique(tracks[1][:, : W - 4])) <= old and not set(np.unique(tracks[1][:, W - 4 :])) & old


def test_a_still_shot_needs_its_ends_and_the_spacing_only() -> None:
    cover = covered(pan(0.0, count=24), reach=12)
    assert cover.keys == (0, 12, 24) and cover.patches == () and set(cover.explained) == {1.0}


def test_keys_are_never_further_apart_than_asked() -> None:
    for reach in (3, 5, 7):
        keys = covered(pan(0.1, count=29), reach=reach).keys
        assert keys[0] == 0 and keys[-1] == 29 and max(np.diff(keys)) <= reach


def test_a_pan_is_covered_by_keys_that_show_what_comes_in() -> None:
    cover = covered(pan(2.0, count=30), reach=30)
    assert len(cover.keys) < 8 and min(cover.explained) > 0.97  # half of the frame is new every six frames


def test_what_shows_only_in_the_middle_gets_a_key_there() -> None:
    """Between two cuts of the surface, frames 4 to 8 show what neither end does."""
    steps = pan(0.0, count=12)
    gone = Step(steps[0].flow, np.zeros((H, W), bool))
    steps[3] = steps[8] = gone  # into frame 4, into frame 9
    cover = covered(steps, reach=12)
    assert any(4 <= key <= 8 for key in cover.keys) and min(cover.explained) == 1.0


def test_a_small_hole_is_a_patch_where_it_is_largest() -> None:
    """A corner that is other surface in frames 3 and 4: one patch explains both, cheaper than a key."""
    steps = pan(0.0, count=12)
    opened = np.ones((H, W), bool)
    opened[:4, :6] = False
    steps[2] = steps[4] = Step(steps[0].flow, opened)
    cover = covered(steps, reach=12)
    (patch,) = cover.patches
    assert patch.frame in (3, 4) and cover.keys == (0, 12)
    assert (patch.left, patch.top) == (0.0, 0.0) and patch.right >= 6 / W and patch.bottom >= 4 / H
    assert max(cover.holes) == 0.0


def test_faces_go_first() -> None:
    """Something small that shows in frames 3 and 4 only: a patch if it is the set, a key if it is a face."""
    steps = pan(0.0, count=12)
    opened = np.ones((H, W), bool)
    opened[:4, :6] = False
    steps[2] = steps[4] = Step(steps[0].flow, opened)
    face = weights(13)
    face[3], face[4] = (np.where(opened, 1.0, 4.0).astype(np.float32) for _ in range(2))
    tracks = follow((H, W), steps)
    assert choose(tracks, weights(13), reach=12).keys == (0, 12)
    assert choose(tracks, face, reach=12).keys in ((0, 3, 12), (0, 4, 12))


def test_forced_frames_are_keys() -> None:
    assert {5, 6} <= set(covered(pan(0.0, count=12), reach=12, forced=(5, 6)).keys)


@pytest.mark.parametrize("count", [1, 2])
def test_the_shortest_shots(count: int) -> None:
    assert covered(pan(0.0, count=count), reach=12).keys == (0, count)
