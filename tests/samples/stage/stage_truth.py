"""An independent picture of the stage in plain numpy: rays, signed distances, moved points."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samples.stage.actions import Performance
from samples.stage.cameras import Camera, Move
from samples.stage.cast import BY_NAME
from samples.stage.geometry import BOX, CONE, ELLIPSOID, ROOM
from samples.stage.render import Frame, render
from samples.stage.scene import Role, Scene
from samples.stage.trace import see

Array = NDArray[Any]
SIZE = (96, 96)

# A walk under a static camera, a gesture under a dolly, a turn inside an orbit that follows.
MOVING = {
    "static": Scene(
        "a brick hall",
        (Role(BY_NAME["mara"], Performance("walking", (0.0, 0.0, -0.9), yaw=0.9)),),
        Move("full", 0.1),
    ),
    "dolly": Scene(
        "a glass room",
        (Role(BY_NAME["otto"], Performance("gesturing", (0.0, 0.0, -0.2), yaw=0.3)),),
        Move("medium", 0.0, kind="dolly", amount=1.2),
    ),
    "orbit": Scene(
        "a corridor with a black door",
        (Role(BY_NAME["iris"], Performance("turning", (0.1, 0.0, -0.3), yaw=-0.4)),),
        Move("medium", 0.2, kind="orbit", amount=1.0),
        follow=True,
    ),
}
for _name, _action in (("looking", "looking round"), ("standing", "standing")):
    _role = Role(BY_NAME["ada"], Performance(_action, (0.0, 0.0, 0.0), yaw=0.4))
    MOVING[_name] = replace(MOVING["orbit"], place="a red room", roles=(_role,))


def frames(name: str, *numbers: int) -> list[Frame]:
    """Frames of a moving scene."""
    return [render(MOVING[name], number, size=SIZE) for number in numbers]


def hits(frame: Frame) -> Array:
    """Which primitive each pixel sees, int [H, W]."""
    cam = frame.state.camera
    return see(frame.state.table, cam.position, cam.rotation, cam.focal, cam.width, cam.height, 1)[0]


def rays(camera: Camera) -> Array:
    """World directions [H, W, 3] whose length along the view axis is one."""
    y, x = np.mgrid[: camera.height, : camera.width]
    across = (x - (camera.width - 1) / 2) / camera.focal
    upward = ((camera.height - 1) / 2 - y) / camera.focal
    right, up, forward = camera.rotation
    return across[..., None] * right + upward[..., None] * up + forward


def places(frame: Frame) -> Array:
    """World points [H, W, 3] of what the pixels see, from the depth pass."""
    return frame.state.camera.position + frame.depth[..., None].astype(np.float64) * rays(frame.state.camera)


def local(row: Array, points: Array) -> Array:
    """World points [N, 3] in a primitive's own axes."""
    return (points - row[1:4]) @ row[4:13].reshape(3, 3).T


def world(row: Array, points: Array) -> Array:
    """A primitive's own points [N, 3] in the world."""
    return points @ row[4:13].reshape(3, 3) + row[1:4]


def distance(row: Array, points: Array) -> Array:
    """Signed distance [N] in metres from world points to a primitive's surface; negative inside solids.

    Exact for round cones, and inside rooms; for ellipsoids a lower bound that is zero on the surface alone
    (|p / r| has slope at most 1 / min r).
    """
    p, shape = local(row, points), row[13:16]
    if row[0] == ELLIPSOID:
        return (np.linalg.norm(p / shape, axis=-1) - 1.0) * shape.min()
    if row[0] == CONE:
        length, r0, r1 = shape
        s = (r0 - r1) / length  # sine of the half opening angle
        c = np.sqrt(1.0 - s * s)
        out, y = np.hypot(p[..., 0], p[..., 2]), p[..., 1]
        along = y * c - out * s
        side = out * c + y * s - r0
        ends = np.where(along < 0, np.hypot(out, y) - r0, np.hypot(out, y - length) - r1)
        return np.where((along < 0) | (along > c * length), ends, side)
    gaps = np.abs(p) - shape
    if row[0] == ROOM:
        return -gaps.max(axis=-1)
    assert row[0] == BOX
    return np.linalg.norm(np.maximum(gaps, 0.0), axis=-1) + np.minimum(gaps.max(axis=-1), 0.0)


def moved(frame: Frame, other: Frame) -> tuple[Array, Array]:
    """Where the pixels' surface points are in another frame: pixels [H, W, 2] and depth [H, W]."""
    hit, points = hits(frame), places(frame)
    for k in np.unique(hit):
        on = hit == k
        points[on] = world(other.state.table[k], local(frame.state.table[k], points[on]))
    cam = other.state.camera
    x, y, z = np.moveaxis((points - cam.position) @ cam.rotation.T, -1, 0)
    pixels = [(cam.width - 1) / 2 + cam.focal * x / z, (cam.height - 1) / 2 - cam.focal * y / z]
    return np.stack(pixels, axis=-1), z


def inner(values: Array) -> Array:
    """[H, W] bool: a pixel and its eight neighbours have one value (never at the frame's edge)."""
    same = np.zeros(values.shape, bool)
    centre = values[1:-1, 1:-1]
    height, width = values.shape
    around = [values[dy : height - 2 + dy, dx : width - 2 + dx] for dy in range(3) for dx in range(3)]
    same[1:-1, 1:-1] = np.all([part == centre for part in around], axis=0)
    return same


def sample(picture: Array, at: Array) -> Array:
    """Bilinear values of [H, W] at pixels [N, 2] that lie inside the frame."""
    height, width = picture.shape
    x, y = at[:, 0].clip(0, width - 1), at[:, 1].clip(0, height - 1)
    left = np.minimum(x.astype(int), width - 2)
    top = np.minimum(y.astype(int), height - 2)
    fx, fy = x - left, y - top
    picture = picture.astype(np.float64)
    upper = picture[top, left] * (1 - fx) + picture[top, left + 1] * fx
    lower = picture[top + 1, left] * (1 - fx) + picture[top + 1, left + 1] * fx
    return upper * (1 - fy) + lower * fy
