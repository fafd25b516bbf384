"""Depth is the ray's depth and normals are the surface's, against signed distances written by definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from stage_truth import MOVING, SIZE, Array, distance, frames, hits, places, rays

from samples.stage.geometry import BOX, CONE, ELLIPSOID, ROOM, primitive
from samples.stage.render import Frame, render
from samples.stage.sampling import random_scene
from samples.stage.sets import SETS
from samples.stage.trace import see


def scenes() -> list[Frame]:
    """One frame in every set."""
    rng = np.random.default_rng(8)
    return [
        render(replace(random_scene(rng, pair_odds=0.5), place=place), 11, size=(64, 64)) for place in SETS
    ]


@pytest.fixture(scope="module")
def every_set() -> list[Frame]:
    return scenes()


def test_depth_ends_on_the_surface(every_set: list[Frame]) -> None:
    kinds = set()
    for frame in every_set:
        hit, points = hits(frame), places(frame)
        assert (hit >= 0).all() and np.isfinite(frame.depth).all()  # rooms are closed
        for k in np.unique(hit):
            row = frame.state.table[k]
            kinds.add(int(row[0]))
            off = distance(row, points[hit == k])
            # float32 metres: 4e-7 at 5 m; the line is 1e-5
            assert np.abs(off).max() < 1e-5
    assert kinds == {ELLIPSOID, CONE, BOX, ROOM}


def test_nothing_is_nearer(every_set: list[Frame]) -> None:
    """Sphere tracing through lower bounds of all distances never passes a surface, and ends at the depth."""
    rng = np.random.default_rng(1)
    for frame in every_set:
        y, x = rng.integers(0, 64, (2, 60))
        directions = rays(frame.state.camera)[y, x]
        speed = np.linalg.norm(directions, axis=-1)
        t = np.full(len(x), 0.02)
        for _ in range(300):
            points = frame.state.camera.position + t[:, None] * directions
            t += np.min([distance(row, points) for row in frame.state.table], axis=0) / speed
        nx, ny, nz = np.moveaxis(frame.normal[y, x], -1, 0)
        centre, focal = 31.5, frame.state.camera.focal
        facing = -(nx * (x - centre) + ny * (centre - y)) / focal + nz
        steep = facing > 0.15 * speed  # grazing rays have not arrived yet
        assert steep.mean() > 0.8
        early = frame.depth[y, x][steep] - t[steep]
        assert early.min() > -1e-5  # never through what is seen
        # a ray that passes close by something comes on slowly; none stopped at anything else
        assert early.max() < 0.03 and np.percentile(early, 95) < 1e-4


def test_normals_are_the_distances_slope(every_set: list[Frame]) -> None:
    for frame in every_set:
        hit, points, cam = hits(frame), places(frame), frame.state.camera
        np.testing.assert_allclose(np.linalg.norm(frame.normal, axis=-1), 1.0, atol=1e-6)
        toward = -rays(cam) @ cam.rotation.T  # camera space x right, y up, z forward
        toward[..., 2] *= -1.0  # and z toward the camera
        assert (np.sum(frame.normal * toward, -1) > -1e-4).all()
        for k in np.unique(hit):
            row, on = frame.state.table[k], hit == k
            expected = slope(row, points[on]) @ cam.rotation.T
            expected[:, 2] *= -1.0
            agree = np.sum(expected * frame.normal[on], -1)
            # a pixel on a box's very edge has either face's normal
            assert (agree > 0.9999).mean() > (0.97 if row[0] in (BOX, ROOM) else 0.999)


def slope(row: Array, points: Array) -> Array:
    """Unit gradient [N, 3] of a primitive's distance by central differences of 10 micrometres."""
    steps = 1e-5 * np.eye(3)
    gradient = np.stack([distance(row, points + s) - distance(row, points - s) for s in steps], -1)
    return gradient / np.linalg.norm(gradient, axis=-1, keepdims=True)


def test_primitives_known_by_hand() -> None:
    """A camera at the origin that looks along +z at one primitive five metres away, straight on."""
    turned = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])  # local x is the world's z
    cases = [
        (ELLIPSOID, (0.5, 0.2, 0.3), np.eye(3), 5.0 - 0.3),
        (ELLIPSOID, (0.5, 0.2, 0.3), turned, 5.0 - 0.5),
        (BOX, (0.4, 0.3, 0.25), np.eye(3), 5.0 - 0.25),
        (ROOM, (9.0, 9.0, 9.0), np.eye(3), 5.0 + 9.0),
        (CONE, (1.0, 0.2, 0.2), np.eye(3), 5.0 - 0.2),
    ]
    for kind, shape, axes, expected in cases:
        centre = np.array([0.0, -0.5 if kind == CONE else 0.0, 5.0])
        table = primitive(kind, centre, axes, shape=shape, material=0, id=1)[None]
        hit, depth = see(table, np.zeros(3), np.eye(3), 40.0, 9, 9, 1)
        assert hit[4, 4] == 0
        assert depth[4, 4] == pytest.approx(expected, abs=1e-9)
        if kind != ROOM:  # it covers a few pixels, not the corner
            assert hit[0, 0] == -1 and depth[0, 0] > 1e29


def test_ids_name_figure_and_part() -> None:
    frame = render(MOVING["static"], 5, size=SIZE)
    np.testing.assert_array_equal(frame.ids, frame.state.table[hits(frame), 19])
    assert set(np.unique(frame.ids >> 8)) == {0, 1}


def test_same_arguments_give_the_same_bytes() -> None:
    one, again = frames("orbit", 7, 7)
    for name in ("engine", "film", "depth", "normal", "ids", "forward", "backward", "visible", "points"):
        assert getattr(one, name).tobytes() == getattr(again, name).tobytes(), name
    other = render(MOVING["orbit"], 7, size=SIZE, seed=1)
    assert other.engine.tobytes() == one.engine.tobytes()  # the seed moves the grain alone
    assert other.film.tobytes() != one.film.tobytes()
