"""samples/shots/blender_walk, which Blender rendered: each pass means what lookdev takes it for.

Passes are held against each other: the camera against the joints, the depth against the normals, the vectors
against the pictures.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.motion import write_encoded
from benchmarks.warp_error import WANTED, measure
from pipeline.shot import Shot, open_shot, probe_motion, read_joints, read_motion, read_pass
from pipeline.shot.inspect import inspect_shot
from pipeline.steady.visibility import round_trip, seen_before

ROOT = Path(__file__).resolve().parents[2] / "samples" / "shots" / "blender_walk"


@pytest.fixture(scope="module")
def shot() -> Shot:
    return open_shot(ROOT)


def test_it_opens_with_every_pass(shot: Shot) -> None:
    assert (shot.num_frames, shot.width, shot.height, shot.characters) == (24, 192, 108, ("walker",))
    assert set(shot.passes) == {"rgb", "depth", "normal", "motion", "ids", "joints"}
    rows = dict(inspect_shot(ROOT))
    assert "read as blender" in rows["pass motion"] and "error" not in rows


def test_the_probe_finds_blenders_vectors_with_the_label_withheld(tmp_path: Path) -> None:
    root = tmp_path / "walk"
    shutil.copytree(ROOT, root)
    (root / "shot.toml").write_text('fps = "24/1"\n')
    found = probe_motion(open_shot(root))
    assert found.encoding is not None and found.encoding.name == "blender"
    assert found.encoding == open_shot(ROOT).motion


def test_the_length_of_a_shutters_vectors_is_seen_in_texture(shot: Shot, tmp_path: Path) -> None:
    """0.6 of a frame, as Unity would write it, and no joints to help: within 5 %."""
    root = write_encoded(shot, "unity, 0.6 of a frame", tmp_path / "walk").root
    (root / "joints.json").unlink()
    found = probe_motion(open_shot(root)).encoding
    assert found is not None and found.backward is not None and found.forward is None
    assert found.backward.unit == "uv"
    np.testing.assert_allclose(found.backward.scale, (-1 / 0.6, 1 / 0.6), rtol=0.05)


def test_the_vectors_carry_the_pictures(shot: Shot) -> None:
    row = measure(shot)
    assert row["motion"] == "motion pass" and row["steps"] == 23
    assert float(row["ratio"]) <= WANTED


def test_joints_lie_where_the_camera_sees_them(shot: Shot) -> None:
    for frame in read_joints(shot, 0, 24):
        (figure,) = frame.figures
        assert figure.world is not None and (figure.points[:, 2] > 0).sum() >= 15
        place, rotation = np.array(frame.camera["position"]), np.array(frame.camera["rotation"])
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-5)
        seen = (figure.world - place) @ rotation.T  # right, up, forward
        pixels = np.stack([seen[:, 0], -seen[:, 1]], axis=1) * frame.camera["focal"] / seen[:, 2:]
        pixels += (np.array([shot.width, shot.height]) - 1) / 2
        np.testing.assert_allclose(pixels, figure.points[:, :2], atol=0.03)


def test_joints_that_are_seen_lie_on_the_figure(shot: Shot) -> None:
    ids, depth = read_pass(shot, "ids", 0, 24), read_pass(shot, "depth", 0, 24)
    assert set(np.unique(ids >> 8)) == {0, 1} and len(np.unique(ids[ids >= 256])) == 16  # its bodies
    on, seen = 0, 0
    for t, frame in enumerate(read_joints(shot, 0, 24)):
        points = frame.figures[0].points
        columns, rows = np.rint(points[points[:, 2] == 2, :2]).astype(int).T
        on, seen = on + int((ids[t, rows, columns] >= 256).sum()), seen + len(rows)
    assert seen >= 15 * 24 and on >= 0.9 * seen
    assert np.isfinite(depth).all() and depth.min() > 1.0 and depth.max() < 12.0


def test_normals_are_the_depths_own_slope_in_camera_space(shot: Shot) -> None:
    """A plane's depth along a row tells its normal: 1/z = (n . ray) / d is linear in the picture."""
    depth, normal = (
        read_pass(shot, "depth", 12, 13)[0].astype(np.float64),
        read_pass(shot, "normal", 12, 13)[0],
    )
    camera = read_joints(shot, 12, 13)[0].camera
    floor = (slice(95, 105), slice(20, 60))
    y, x = np.mgrid[floor]
    rays = np.stack(
        [x - (shot.width - 1) / 2, (shot.height - 1) / 2 - y, np.full(x.shape, -camera["focal"])], -1
    )
    plane = np.linalg.lstsq(rays.reshape(-1, 3), (1.0 / depth[floor]).ravel(), rcond=None)[0]
    plane *= -np.sign(plane @ rays[0, 0]) / np.linalg.norm(plane)  # toward the camera
    np.testing.assert_allclose(np.median(normal[floor], axis=(0, 1)), plane, atol=0.02)
    assert normal[50, 96, 2] > 0  # the far wall and the figure face the camera


def test_ids_and_depth_tell_what_is_hidden_as_the_vectors_do(shot: Shot) -> None:
    motion, ids, depth = (
        read_motion(shot, 10, 12),
        read_pass(shot, "ids", 10, 12),
        read_pass(shot, "depth", 10, 12),
    )
    back = seen_before(
        ids_now=ids[1], ids_previous=ids[0], depth_now=depth[1], depth_previous=depth[0],
        backward_flow=motion.backward[1], forward_previous=motion.forward[0],
    )  # fmt: skip
    assert 0.95 < back.mean() < 0.999
    assert (back == round_trip(motion.backward[1], motion.forward[0])).mean() > 0.97
