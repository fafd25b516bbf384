"""A shot's pictures and passes by frame, at the rendered size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_shot import SIZE, STEP, make_shot, passes

from pipeline.footage import Footage
from pipeline.shot import Shot

NUM_FRAMES = 5


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> Shot:
    return make_shot(tmp_path_factory.mktemp("shots") / "wall", num_frames=NUM_FRAMES)


def without(shot: Shot, *names: str) -> Shot:
    return replace(shot, passes={name: source for name, source in shot.passes.items() if name not in names})


def test_pictures_are_the_shots(shot: Shot) -> None:
    footage = Footage(shot, width=SIZE, height=SIZE)
    np.testing.assert_array_equal(footage.engine(3), passes(NUM_FRAMES).rgb[3])


def test_vectors_are_rescaled_to_the_new_pixels(shot: Shot) -> None:
    footage = Footage(shot, width=2 * SIZE, height=SIZE // 2)
    back, onward = footage.back(2).flow, footage.onward(2).flow
    assert back.shape == (SIZE // 2, 2 * SIZE, 2) and back.dtype == np.float32
    assert np.all(back[..., 0] == -2 * STEP) and np.all(onward[..., 0] == 2 * STEP)
    assert np.all(back[..., 1] == 0)


def test_labels_are_picked_never_averaged(shot: Shot) -> None:
    surfaces = Footage(shot, width=SIZE // 2, height=SIZE // 2).surfaces(2)
    assert surfaces.ids is not None and set(np.unique(surfaces.ids)) == {1}
    assert surfaces.depth is not None and set(np.unique(surfaces.depth)) == {3.0}


def test_the_exact_pass_tells_what_is_seen(shot: Shot) -> None:
    """Columns 0 to 2 slid in; the right edge leaves the frame."""
    footage = Footage(shot, width=SIZE, height=SIZE)
    np.testing.assert_array_equal(footage.back(2).seen, np.tile(np.arange(SIZE) >= STEP, (SIZE, 1)))
    np.testing.assert_array_equal(footage.onward(2).seen, np.tile(np.arange(SIZE) < SIZE - STEP, (SIZE, 1)))


@pytest.mark.parametrize("names", [("visible",), ("visible", "ids"), ("visible", "ids", "depth")])
def test_without_it_geometry_does(shot: Shot, names: tuple[str, ...]) -> None:
    exact = Footage(shot, width=SIZE, height=SIZE).back(2).seen
    found = Footage(without(shot, *names), width=SIZE, height=SIZE).back(2).seen
    assert (found == exact).mean() > 0.97


def test_what_is_held_is_bounded_and_the_same_when_read_again(shot: Shot) -> None:
    tight, roomy = Footage(shot, width=SIZE, height=SIZE, hold=60_000), Footage(shot, width=SIZE, height=SIZE)
    for t in (1, 4, 2, 1, 3):
        for one, other in zip(vars(tight.back(t)).values(), vars(roomy.back(t)).values(), strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(tight.facts(t), roomy.facts(t))
        assert tight._size <= 60_000 + 2 * SIZE * SIZE * 13  # what was just made is never let go


def test_a_single_frame_has_surfaces(tmp_path: Path) -> None:
    alone = Footage(make_shot(tmp_path / "one", num_frames=1), width=SIZE, height=SIZE)
    assert alone.facts(0).shape == (SIZE, SIZE, 3)
