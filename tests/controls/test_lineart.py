"""Lineart from passes: thin white lines on black where a pen would draw them, none on plain surfaces."""

import numpy as np
import pytest

from pipeline.controls import lineart_map, lines_map, softedge_map
from pipeline.controls.lineart import thinned

SIZE = 128
GREY = np.full((1, SIZE, SIZE, 3), 128, np.uint8)


def disc() -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    return np.hypot(x, y) < 40


def test_a_discs_outline_is_one_thin_line() -> None:
    """The outline of a figure before a wall: bright on it, black two pixels off, thinner than softedge's."""
    depth = np.where(disc(), 2.0, 5.0).astype(np.float32)[None]
    ids = np.where(disc(), 256, 0).astype(np.uint32)[None]
    lines = lineart_map(GREY, depth=depth, ids=ids)[0, ..., 0].astype(int)
    row = lines[SIZE // 2]
    edges = np.flatnonzero(np.diff(disc()[SIZE // 2]))  # the outline lies between these and the next pixels
    for edge in edges:
        assert row[edge : edge + 2].max() == 255
        assert row[edge - 5 : edge - 3].max() < 10 and row[edge + 5 : edge + 7].max() < 10
    assert (lines > 60).sum() < 0.9 * (softedge_map(GREY, depth=depth, ids=ids)[0, ..., 0] > 60).sum()
    assert lines[SIZE // 2 - 20 : SIZE // 2 + 20, SIZE // 2 - 20 : SIZE // 2 + 20].max() == 0


def test_what_only_the_picture_shows_is_fainter() -> None:
    frame = GREY.copy()
    frame[:, :, SIZE // 2 :] = 255
    inner = int(lineart_map(frame).max())
    assert 60 < inner < 220
    ids = np.zeros((1, SIZE, SIZE), np.uint32)
    ids[:, :, SIZE // 2 :] = 256
    assert lineart_map(frame, ids=ids).max() == 255


def test_nothing_on_a_plain_picture_and_the_same_in_every_frame() -> None:
    assert lineart_map(np.repeat(GREY, 2, axis=0)).max() == 0
    noise = np.random.default_rng(0).integers(0, 255, (1, 32, 32, 3), np.uint8)
    both = lineart_map(np.concatenate([noise, noise]))
    np.testing.assert_array_equal(both[0], both[1])


def test_only_crests_are_left() -> None:
    ridge = np.zeros((9, 9), np.float32)
    ridge[:, 3:6] = (0.5, 1.0, 0.5)
    np.testing.assert_array_equal(thinned(ridge)[4], np.where(np.arange(9) == 4, 1.0, 0.0))


def test_a_pass_of_lines_is_drawn_as_it_is() -> None:
    lines = np.random.default_rng(0).integers(0, 255, (2, 8, 9), np.uint8)
    np.testing.assert_array_equal(lines_map(lines)[..., 1], lines)
    with pytest.raises(ValueError, match=r"\[T, H, W\]"):
        lines_map(lines[0])


def test_shapes_that_disagree() -> None:
    with pytest.raises(ValueError, match="lineart_map: depth"):
        lineart_map(GREY, depth=np.ones((1, 8, 8), np.float32))
