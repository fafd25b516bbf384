"""Visibility of a box that slides over a wall."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.steady.visibility import seen_before, soften, visible_backward

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


def test_exact_pass_wins_over_geometry() -> None:
    passes = sliding()
    nothing = np.zeros((SIZE, SIZE), np.uint8)
    assert not visible_backward(**passes, visible=nothing).any()
    assert not visible_backward(**passes, visible=nothing + 1).any()  # bit 0 is about the next frame
    assert (visible_backward(**passes, visible=nothing + 2) == 1.0).all()


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
        visible_backward(**passes)


@pytest.mark.parametrize("seed", [0, 3, 6])
def test_geometry_agrees_with_the_stages_exact_pass(seed: int) -> None:
    """Moving camera and figure: ids and depth tell what the stage knows by tracing the surface points."""
    from samples.stage.render import render
    from samples.stage.sampling import random_scene

    scene = random_scene(np.random.default_rng((3, seed)))
    before, now = render(scene, 20), render(scene, 21)
    exact = (now.visible & 2) > 0
    guessed = seen_before(
        ids_now=now.ids,
        ids_previous=before.ids,
        depth_now=now.depth,
        depth_previous=before.depth,
        backward_flow=now.backward,
    )
    # what differs is outlines, where the nearest pixel's id is the other surface's
    assert (guessed == exact).mean() > 0.98
    hidden = ~exact
    assert hidden.sum() > 100
    assert (hidden & ~guessed).sum() >= 0.8 * hidden.sum()
