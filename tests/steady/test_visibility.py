"""Visibility of a box that slides over a wall."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.steady.visibility import round_trip, seen_before, seen_both_ways, soften

SIZE = 40
STEP = 4  # pixels that the box moves to the right in one frame
BOX, WALL = 256 + 3, 0


def scene(left: int) -> tuple[np.ndarray, np.ndarray]:
    """ids and depth with a 12-pixel box in front of a wall."""
    ids = np.full((SIZE, SIZE), WALL, np.uint32)
    depth = np.full((SIZE, SIZE), 5.0, np.float32)
    ids[14:26, left : left + 12] = BOX
    depth[14:26, left : left + 12] = 2.0
    return ids, depth


def sliding() -> dict[str, np.ndarray]:
    ids_previous, depth_previous = scene(10)
    ids_now, depth_now = scene(10 + STEP)
    flow = np.zeros((SIZE, SIZE, 2), np.float32)
    flow[ids_now == BOX] = (-STEP, 0)
    return {
        "ids_now": ids_now,
        "ids_previous": ids_previous,
        "depth_now": depth_now,
        "depth_previous": depth_previous,
        "backward_flow": flow,
    }


def test_only_the_wall_behind_the_box_is_new() -> None:
    new = ~seen_before(**sliding())
    expected = np.zeros((SIZE, SIZE), bool)
    expected[14:26, 10 : 10 + STEP] = True  # what the box uncovered
    np.testing.assert_array_equal(new, expected)


def test_depth_alone_finds_what_ids_do_not_tell() -> None:
    passes = sliding()
    passes["ids_now"], passes["ids_previous"] = (
        np.zeros_like(passes["ids_now"]),
        np.zeros_like(passes["ids_now"]),
    )
    new = ~seen_before(**passes)
    # compared with a 3 x 3 range, so the pixels next to a depth edge are given the benefit of the doubt
    assert new[15:25, 11 : 10 + STEP].all()
    assert not new[:, :10].any() and not new[:13].any()


def test_what_comes_in_at_the_frames_edge_is_new() -> None:
    passes = sliding()
    passes["ids_now"] = passes["ids_previous"] = np.zeros((SIZE, SIZE), np.uint32)
    passes["depth_now"] = passes["depth_previous"] = np.full((SIZE, SIZE), np.inf, np.float32)
    passes["backward_flow"] = np.full((SIZE, SIZE, 2), (3.0, 0.0), np.float32)
    seen = seen_before(**passes)
    assert seen[:, : SIZE - 3].all() and not seen[:, SIZE - 3 :].any()


def test_mask_is_soft_inwards_only() -> None:
    seen = np.ones((SIZE, SIZE), bool)
    seen[:, 20:] = False
    soft = soften(seen)
    assert not soft[:, 20:].any()
    assert 0.0 < soft[20, 19] < soft[20, 18] < soft[20, 16]
    np.testing.assert_allclose(soft[:, :15], 1.0, atol=1e-6)


def test_sizes_that_differ_are_refused() -> None:
    passes = sliding()
    passes["depth_now"] = passes["depth_now"][:10]
    with pytest.raises(ValueError, match="sizes differ"):
        seen_before(**passes)


def test_outlines_between_pixels_are_told_by_both_frames() -> None:
    """A box and a wall that slide by fractions of a pixel; where a point was covered is known exactly."""

    def frame(t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        columns = np.arange(SIZE)
        on_box = np.broadcast_to((columns >= 8.2 + 1.37 * t) & (columns < 18.2 + 1.37 * t), (SIZE, SIZE))
        ids = np.where(on_box, BOX, WALL).astype(np.uint32)
        flow = np.zeros((SIZE, SIZE, 2), np.float32)
        flow[..., 0] = np.where(on_box, 1.37, 0.41)
        return ids, np.where(on_box, 2.0, 5.0).astype(np.float32), flow

    wrong = {"one": 0, "both": 0}
    hidden = 0
    for t in range(1, 13):
        (ids_previous, depth_previous, forward), (ids_now, depth_now, flow) = frame(t - 1), frame(t)
        passes = {"ids_now": ids_now, "ids_previous": ids_previous, "depth_now": depth_now}
        passes |= {"depth_previous": depth_previous, "backward_flow": -flow}
        source, left = np.arange(SIZE) - 0.41, 8.2 + 1.37 * (t - 1)
        covered = (ids_now == WALL) & (source >= left) & (source < left + 10.0) & (source >= -0.5)
        truth = ~covered & (source >= -0.5)
        hidden += int(covered.sum())
        wrong["one"] += int((seen_before(**passes) != truth).sum())
        wrong["both"] += int((seen_before(**passes, forward_previous=forward) != truth).sum())
    assert hidden > 9 * SIZE  # about a pixel a frame and row
    assert wrong["both"] <= 0.5 * wrong["one"] and wrong["both"] <= 0.25 * hidden, (wrong, hidden)


def test_a_part_that_touches_another_is_no_occlusion_where_it_is_farther() -> None:
    """Ids change where limbs meet; what is found beside its old place on a farther surface was not hidden."""
    ids = np.full((2, SIZE, SIZE), 257, np.uint32)
    depth = np.full((2, SIZE, SIZE), 3.0, np.float32)
    ids[:, :, 20:], depth[:, :, 20:] = 258, 3.2
    flow = np.zeros((SIZE, SIZE, 2), np.float32)
    flow[..., 0] = 0.6  # the border's pixels fetch from over the border
    passes = {"ids_now": ids[1], "ids_previous": ids[0], "depth_now": depth[1], "depth_previous": depth[0]}
    seen = seen_before(**passes, backward_flow=flow)
    assert seen[:, :-1].all()
    flow[..., 0] = -0.6  # now the farther part fetches from the nearer: hidden
    seen = seen_before(**passes, backward_flow=flow)
    assert not seen[:, 20].any() and seen[:, 21:].all() and seen[:, 1:20].all()


def test_what_is_found_nowhere_is_not_seen() -> None:
    """Vectors that lead to a farther surface of another id are wrong, not a view past an outline."""
    passes = sliding()
    passes["backward_flow"] = np.zeros_like(passes["backward_flow"])  # as if the box had stood still
    seen = seen_before(**passes)
    assert not seen[14:26, 10 + 12 : 14 + 12].any()  # the box's new columns find the wall behind


@pytest.mark.parametrize("seed", [0, 3, 6])
def test_geometry_agrees_with_the_stages_exact_pass(seed: int) -> None:
    """Moving camera and figure: ids and depth tell what the stage knows by tracing the surface points."""
    from samples.stage.render import render
    from samples.stage.sampling import random_scene

    moving = random_scene(np.random.default_rng((3, seed)))
    before, now = render(moving, 20), render(moving, 21)
    exact = (now.visible & 2) > 0
    guessed = seen_before(
        ids_now=now.ids,
        ids_previous=before.ids,
        depth_now=now.depth,
        depth_previous=before.depth,
        backward_flow=now.backward,
        forward_previous=before.forward,
    )
    # what differs is outlines, to half a pixel
    hidden, said = ~exact, ~guessed
    assert hidden.sum() > 100
    assert 2 * (hidden & said).sum() >= 0.88 * (hidden.sum() + said.sum())
    assert (guessed == exact).mean() > 0.994  # it was 0.985 by the nearest sample alone


def test_both_ways_without_passes_is_the_round_trip() -> None:
    forward, backward = (
        np.full((8, 8, 2), (2.0, 0.0), np.float32),
        np.full((8, 8, 2), (-2.0, 0.0), np.float32),
    )
    onward, back = seen_both_ways(forward, backward)
    np.testing.assert_array_equal(onward, round_trip(forward, backward))
    assert onward[:, :6].all() and not onward[:, 6:].any() and back[:, 2:].all() and not back[:, :2].any()
    ids = np.ones((2, 8, 8), np.uint32)
    ids[1, 3] = 2  # another surface
    onward, back = seen_both_ways(forward, backward, ids=ids)
    assert not onward[3].any() and not back[3].any() and onward[4, :6].all()
