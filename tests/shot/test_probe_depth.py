"""The depth probe: a room's walls tell how depth was written; what they do not tell is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline import cli
from pipeline.shot import (
    Figure,
    FrameJoints,
    FramePasses,
    Shot,
    open_shot,
    probe_depth,
    read_pass,
    write_shot,
)
from pipeline.shot.exr import write_channels

T, H, W, FOCAL = 4, 120, 160, 150.0
NEAR, FAR = 0.3, 200.0


def room(t: int) -> np.ndarray:
    """Depth in metres of a floor and two walls before a camera that comes forward, and a ball, [H, W]."""
    y, x = np.mgrid[:H, :W].astype(float)
    right, up = (x - (W - 1) / 2) / FOCAL, ((H - 1) / 2 - y) / FOCAL
    with np.errstate(divide="ignore"):
        floor = np.where(up < 0, -1.5 / up, np.inf)
        wall = 9.0 / (1 + 0.6 * right)  # turned
        side = np.where(right > 0, 3.0 / right, np.inf)
    depth = np.minimum(np.minimum(floor, wall), side) - 0.05 * t
    off = (x - 70) ** 2 + (y - 70) ** 2
    return np.where(off < 400, 3.0 - np.sqrt(np.maximum(400 - off, 0)) / 50, depth)


def device(z: np.ndarray, near: float = NEAR, far: float = FAR) -> np.ndarray:
    return (1 / near - 1 / z) / (1 / near - 1 / far)


def joints(t: int) -> FrameJoints:
    """Joints on the surfaces, seen by a camera at the origin that looks along +z."""
    rng = np.random.default_rng(t)
    x, y = rng.integers(5, W - 5, 18), rng.integers(5, H - 5, 18)
    z = room(t)[y, x]
    world = np.stack([(x - (W - 1) / 2) / FOCAL * z, ((H - 1) / 2 - y) / FOCAL * z, z], axis=1)
    points = np.stack([x, y, np.full(18, 2)], axis=1).astype(np.float32)
    camera = {"position": [0, 0, 0], "rotation": np.eye(3).tolist()}
    return FrameJoints(t + 1, (Figure("iris", 1, points, world.astype(np.float32)),), camera)


def make_room(root: Path, encode: Callable[[np.ndarray], np.ndarray], *, with_joints: bool = True) -> Shot:
    passes = FramePasses(
        rgb=np.zeros((T, H, W, 3), np.uint8), joints=tuple(map(joints, range(T))) if with_joints else ()
    )
    write_shot(root, [passes], fps=Fraction(24))
    for t in range(T):
        stored = encode(room(t)).astype(np.float32)
        write_channels(root / "depth" / f"depth.{t + 1:04d}.exr", {"R": stored})
    return open_shot(root)


KINDS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "metres": (lambda z: z, "linear"),
    "centimetres": (lambda z: 100 * z, "linear"),
    "kilometres": (lambda z: z / 1000, "linear"),
    "normalised": (device, "normalised"),
    "reversed": (lambda z: 1 - device(z), "reversed"),
    "reversed, infinite": (lambda z: NEAR / z, "reversed"),
    "from near to far": (lambda z: (z - 0.5) / 49.5, "unit"),
}


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_is_found_and_read_back(tmp_path: Path, name: str) -> None:
    encode, kind = KINDS[name]
    shot = make_room(tmp_path / "room", encode)
    found = probe_depth(shot)
    assert found.encoding is not None and found.encoding.kind == kind, found
    back = read_pass(replace(shot, depth=found.encoding), "depth", 0, T)
    truth = np.stack([room(t) for t in range(T)])
    assert np.median(np.abs(back / truth - 1)) < 0.02  # joints are whole pixels on slanted floors


def test_planes_that_the_user_knows(tmp_path: Path) -> None:
    shot = make_room(tmp_path / "room", lambda z: 1 - device(z), with_joints=False)
    told = probe_depth(shot)
    assert told.encoding is None and "device depth, reversed; near and far cannot be told" in told.reason
    found = probe_depth(shot, near=NEAR, far=FAR)
    assert found.encoding is not None
    back = read_pass(replace(shot, depth=found.encoding), "depth", 0, T)
    np.testing.assert_allclose(back[2], room(2), rtol=2e-3)


def test_linear_below_one_is_not_taken_for_metres(tmp_path: Path) -> None:
    """Shares of a far plane whose near is all but 0: only the user knows how far that is."""
    shot = make_room(tmp_path / "room", lambda z: z / 50, with_joints=False)
    told = probe_depth(shot)
    assert told.encoding is None and "give the camera's with --near and --far" in told.reason
    found = probe_depth(shot, far=50.0)
    assert found.encoding is not None
    back = read_pass(replace(shot, depth=found.encoding), "depth", 0, T)
    np.testing.assert_allclose(back[2], room(2), rtol=1e-5)


@pytest.mark.parametrize(
    ("encode", "reason"),
    [
        (lambda z: np.zeros_like(z), "nothing is hit"),
        (lambda z: -z / 10, "values below 0"),
        (lambda z: np.random.default_rng(0).uniform(0.1, 0.9, z.shape), "no kind has clearly more planes"),
        (lambda z: np.full_like(z, 0.25), "no kind has clearly more planes"),
    ],
)
def test_it_says_that_it_cannot_tell(
    tmp_path: Path, encode: Callable[[np.ndarray], np.ndarray], reason: str
) -> None:
    found = probe_depth(make_room(tmp_path / "room", encode))
    assert found.encoding is None and reason in found.reason


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "room"
    make_room(root, lambda z: 1 - device(z), with_joints=False)
    assert cli.main(["shot", "probe", str(root)]) == 1
    assert "give the camera's with --near and --far" in capsys.readouterr().err
    assert cli.main(["shot", "probe", str(root), "--near", str(NEAR), "--far", str(FAR), "--dry-run"]) == 0
    assert open_shot(root).depth.kind == "linear"
    assert cli.main(["shot", "probe", str(root), "--near", str(NEAR), "--far", str(FAR)]) == 0
    written = open_shot(root).depth
    assert (written.kind, written.near, written.far) == ("reversed", NEAR, FAR)
    assert cli.main(["shot", "probe", str(root), "--near", "0.4"]) == 0  # replaced, not repeated
    assert open_shot(root).depth.far == np.inf
