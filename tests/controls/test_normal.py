"""Normals in NormalBae's colours: axes, background, length."""

import numpy as np
import pytest

from pipeline.controls import normal_map
from pipeline.errors import ShotError


def one(vector: tuple[float, float, float]) -> tuple[int, ...]:
    return tuple(int(v) for v in normal_map(np.array(vector, np.float32).reshape(1, 1, 1, 3))[0, 0, 0])


@pytest.mark.parametrize(
    ("vector", "colour"),
    [
        ((0, 0, 1), (127, 127, 255)),  # toward the camera
        ((-1, 0, 0), (255, 127, 127)),  # left-facing is red
        ((1, 0, 0), (0, 127, 127)),
        ((0, 1, 0), (127, 255, 127)),  # a floor is green
        ((0, -1, 0), (127, 0, 127)),
        ((0, 0, 0), (127, 127, 255)),  # nothing was hit
        ((np.nan, np.nan, np.nan), (127, 127, 255)),
        ((0, 0.5, 0), (127, 255, 127)),  # shortened by anti-aliasing
    ],
)
def test_colours(vector: tuple[float, float, float], colour: tuple[int, int, int]) -> None:
    assert one(vector) == colour


def test_bae_s_own_ground_truth_has_these_axes() -> None:
    """Depth to normals as Bae's Depth2normal does: the plane's normal with n . point >= 0 (x right, y down,
    z forward), here by a cross product of neighbours; our renderer's normal is (right, up, toward)."""
    f, size = 40.0, 33
    y, x = np.mgrid[:size, :size].astype(np.float64) - size // 2
    ray = np.stack([x / f, y / f, np.ones_like(x)], axis=-1)  # x right, y down, z forward
    outward = np.array([0.48, -0.36, -0.8])  # a plane that faces right, up and the camera
    points = ray * (-2.0 / (ray @ outward))[..., None]
    normal = np.cross(points[1:, :-1] - points[:-1, :-1], points[:-1, 1:] - points[:-1, :-1])
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    normal *= np.sign((normal * points[:-1, :-1]).sum(axis=-1, keepdims=True))
    theirs = ((normal + 1.0) * 0.5 * 255.0).astype(np.uint8)  # the detector's line
    ours = normal_map((outward * [1, -1, -1]).astype(np.float32).reshape(1, 1, 1, 3))[0, 0, 0]
    assert np.abs(theirs.astype(int) - ours.astype(int)).max() <= 1


def test_every_length_of_a_direction_is_the_same_colour() -> None:
    generator = np.random.default_rng(0)
    unit = generator.normal(size=(1, 8, 8, 3)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=-1, keepdims=True)
    picture = normal_map(unit)
    assert picture.shape == (1, 8, 8, 3) and picture.dtype == np.uint8
    # truncation may fall either way of a whole number
    assert np.abs(normal_map(unit * np.float32(0.3)).astype(int) - picture).max() <= 1
    back = (picture.astype(np.float64) + 0.5) / 127.5 - 1.0
    assert np.abs(back * [-1, 1, 1] - unit).max() < 1.0 / 127.5


def test_what_is_no_direction_is_one_line() -> None:
    normals = np.zeros((2, 3, 4, 3), np.float32)
    normals[1, 2, 3] = (0, 0, 255)
    with pytest.raises(ShotError, match=r"b\.exr: holds a vector of length 255 at \(x=3, y=2\)"):
        normal_map(normals, names=("a.exr", "b.exr"))
    normals[1, 2, 3] = (0, 0, np.inf)
    with pytest.raises(ShotError, match="frame 1 of the window: holds a vector of length inf"):
        normal_map(normals)
    with pytest.raises(ValueError, match=r"must be \[T, H, W, 3\]"):
        normal_map(normals[0])
