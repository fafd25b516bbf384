"""Soft edges: nothing on smooth surfaces, a line where a surface ends, the same in every frame."""

import numpy as np
import pytest

from pipeline.controls import softedge_map
from pipeline.controls.softedge import crease_edges, depth_edges, id_edges, picture_edges

SIZE = 64
GREY = np.full((1, SIZE, SIZE, 3), 128, np.uint8)


def plane(slope_x: float, slope_y: float, distance: float) -> np.ndarray:
    """Depth of a plane through a camera of 64 px focal length, float32 [H, W]: 1/z is linear in x and y."""
    y, x = (np.mgrid[:SIZE, :SIZE].astype(np.float64) - SIZE / 2) / SIZE
    return (distance / (1.0 + slope_x * x + slope_y * y)).astype(np.float32)


@pytest.mark.parametrize("slopes", [(0.0, 0.0), (0.9, 0.0), (-0.7, 1.1)])
@pytest.mark.parametrize("half", [False, True])
def test_no_plane_has_an_edge_however_slanted(slopes: tuple[float, float], half: bool) -> None:
    depth = plane(*slopes, distance=3.0)
    if half:  # as EXR files often hold it
        depth = depth.astype(np.float16).astype(np.float32)
    assert not depth_edges(depth).any()


def test_a_sphere_has_its_outline_only() -> None:
    """A ball of 20 px radius before a wall: a line along its outline, nothing inside or on the wall."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float64) - (SIZE - 1) / 2
    radius = np.hypot(x, y)
    bulge = np.sqrt(np.maximum(20.0**2 - radius**2, 0.0)) / 20.0  # 0 at the outline, 1 in the middle
    depth = np.where(radius < 20, 3.0 - 0.5 * bulge, 6.0).astype(np.float32)
    edges = depth_edges(depth)
    inside = np.pad(radius < 20, 1)
    beside = ~(inside[2:, 1:-1] & inside[:-2, 1:-1] & inside[1:-1, 2:] & inside[1:-1, :-2])
    assert edges[(radius < 20) & beside].min() == 1.0
    assert not edges[(radius < 16) | (radius > 22)].any()
    normals = np.where((radius < 20)[..., None], np.stack([x / 20, -y / 20, bulge], axis=-1), [0, 0, 1])
    assert not crease_edges(normals.astype(np.float32))[radius < 16].any()


def test_background_is_a_surface_that_ends() -> None:
    depth = np.full((SIZE, SIZE), np.inf, np.float32)
    assert not depth_edges(depth).any()
    depth[:, : SIZE // 2] = 2.0
    edges = depth_edges(depth)
    assert edges[:, SIZE // 2 - 1 : SIZE // 2 + 1].min() == 1.0 and np.flatnonzero(edges[0]).size == 2


def test_creases_by_their_angle() -> None:
    def corner(degrees: float) -> np.ndarray:
        normals = np.zeros((SIZE, SIZE, 3), np.float32)
        normals[..., 2] = 1.0
        turn = np.radians(degrees)
        normals[:, SIZE // 2 :] = (np.sin(turn), 0.0, np.cos(turn))
        return crease_edges(normals)

    assert not corner(15).any()
    assert corner(90).max() == 1.0 and 0.0 < corner(40).max() < 1.0
    assert np.flatnonzero(corner(90)[3]).size == 1
    nothing = np.full((SIZE, SIZE, 3), np.nan, np.float32)
    nothing[:, :9] = (0, 0, 1)
    assert not crease_edges(nothing).any()  # where the surface ends is the depth's and the ids' to say


def test_figures_count_more_than_their_parts() -> None:
    ids = np.zeros((SIZE, SIZE), np.uint32)
    ids[:, 16:32], ids[:, 32:48] = 256 + 1, 256 + 2
    row = id_edges(ids)[0]
    assert row[15] == 1.0 and row[47] == 1.0 and 0.0 < row[31] < 1.0 and np.flatnonzero(row).size == 3


@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.0, 4.0])
def test_a_picture_s_step_is_measured_by_its_contrast(sigma: float) -> None:
    for contrast, expected in ((0.04, 0.0), (0.23, 0.5), (0.45, 1.0)):
        frame = np.full((SIZE, SIZE, 3), 60, np.uint8)
        frame[:, SIZE // 2 :] = round(60 + 255 * contrast)
        edges = picture_edges(frame, sigma)
        # half-way up the ramp from 0.06 to 0.40; whole levels and OpenCV's sampled kernel make 1.5 % of
        # contrast, and the ramp rises by 4.4 there
        assert edges.max() == pytest.approx(expected, abs=0.07)
        assert expected != 0.5 or edges[0].argmax() in (SIZE // 2 - 1, SIZE // 2)


def test_lines_are_soft_white_on_black_and_fixed() -> None:
    ids = np.zeros((3, SIZE, SIZE), np.uint32)
    ids[:, :, SIZE // 2 :] = 256
    frames = GREY.repeat(3, axis=0)
    lines = softedge_map(frames, ids=ids)
    assert lines.shape == frames.shape and lines.dtype == np.uint8
    row = lines[0, 5, :, 0]
    assert row.max() == 255 and row[0] == row[-1] == 0 and len(np.unique(row)) > 3  # soft
    assert np.array_equal(lines[0], lines[1]) and np.array_equal(lines, softedge_map(frames, ids=ids))
    # another thing that enters the frame leaves the line where it was as it was
    ids[1, :8, :8] = 512
    assert np.array_equal(softedge_map(frames, ids=ids)[1, 30:], lines[1, 30:])
    assert not softedge_map(GREY).any()


def test_a_picture_alone_has_edges() -> None:
    frames = GREY.copy()
    frames[:, 20:40, 20:40] = (250, 30, 30)
    lines = softedge_map(frames)[0, ..., 0]
    assert lines[30, 19:21].max() == 255 and lines[30, 30] == 0 and lines[5, 5] == 0


def test_shapes_that_disagree() -> None:
    with pytest.raises(ValueError, match="softedge_map: depth"):
        softedge_map(GREY, depth=np.ones((1, 8, 8), np.float32))
