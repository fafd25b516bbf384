"""One frame of the stage: both looks and every pass."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from samples.stage.scene import Scene, State, state
from samples.stage.sets import LOOKS, Look
from samples.stage.shade import shade
from samples.stage.trace import carry, normals_at, see

UInt8Array = NDArray[np.uint8]
Float32Array = NDArray[np.float32]

OVERSAMPLE = 2
_PANE_DEPTH, _PANE_ID = 0.25, 15  # metres; a part of the set
_TOWARD = np.array([0.0, 0.0, 1.0], np.float32)
_JOINT_SLACK = 0.16  # metres a joint may lie behind the surface over it: the thickest limb's radius and more


@dataclass(frozen=True)
class Frame:
    """A rendered frame; layouts follow the legend in docs/architecture.md."""

    engine: UInt8Array  # [H, W, 3]
    film: UInt8Array  # [H, W, 3]
    depth: Float32Array  # [H, W] metres, inf = nothing
    normal: Float32Array  # [H, W, 3] camera space, unit length, zeros = nothing
    ids: NDArray[np.uint32]  # [H, W] 256 * figure + part
    forward: Float32Array  # [H, W, 2] pixels to t+1, nan = nothing hit
    backward: Float32Array  # [H, W, 2] pixels to t-1
    visible: UInt8Array  # [H, W] bit 0 seen in t+1, bit 1 seen in t-1
    points: Float32Array  # [P, 18, 3] x, y in pixels and 0 outside, 1 hidden, 2 seen
    world: NDArray[np.float64]  # [P, 18, 3] metres
    state: State


def render(scene: Scene, frame: int, *, size: tuple[int, int] = (128, 128), seed: int = 0) -> Frame:
    """Render frame `frame` (0-based) of a scene, both looks and all passes.

    `size` is (width, height) in pixels; `seed` moves the film grain only. Same arguments, same bytes.
    """
    now = state(scene, frame, size=size)
    cam = now.camera
    hit, depth = see(now.table, cam.position, cam.rotation, cam.focal, cam.width, cam.height, 1)
    forward, seen_next = _carry(now, hit, depth, state(scene, frame + 1, size=size))
    backward, seen_before = _carry(now, hit, depth, state(scene, frame - 1, size=size))
    visible = (seen_next | (seen_before << 1)).astype(np.uint8)
    ids = np.where(hit >= 0, now.table[hit, 19], 0).astype(np.uint32)
    engine, film = looks(now, scene.look, seed=seed * 100003 + frame)
    if scene.pane:
        hit = np.full_like(hit, -1)
        depth, ids = np.full_like(depth, _PANE_DEPTH), np.full_like(ids, _PANE_ID)
        forward, backward = np.zeros_like(forward), np.zeros_like(backward)
        visible = np.full_like(visible, 3)
    return Frame(
        engine=engine,
        film=film,
        depth=np.where((hit >= 0) | scene.pane, depth, np.inf).astype(np.float32),
        normal=np.tile(_TOWARD, (*depth.shape, 1)) if scene.pane else _normals(now, hit, depth),
        ids=ids,
        forward=forward,
        backward=backward,
        visible=visible,
        points=project_joints(now, depth),
        world=now.points,
        state=now,
    )


def _carry(
    now: State, hit: NDArray[np.int32], depth: NDArray[np.float64], other: State
) -> tuple[Float32Array, UInt8Array]:
    """Motion [H, W, 2] into another state, and where its end is seen there [H, W]."""
    a, b = now.camera, other.camera
    flow, seen = carry(
        hit, depth, now.table, a.position, a.rotation, a.focal,
        other.table, other.groups, b.position, b.rotation, b.focal,
    )  # fmt: skip
    return flow, seen


def looks(now: State, look: str, *, seed: int) -> tuple[UInt8Array, UInt8Array]:
    """The engine look and the film look [H, W, 3] of a state, anti-aliased by OVERSAMPLE ** 2 samples."""
    cam, s = now.camera, OVERSAMPLE
    hit, depth = see(now.table, cam.position, cam.rotation, cam.focal, cam.width, cam.height, s)
    grey, light = shade(
        hit, depth, now.table, now.groups, now.materials, cam.position, cam.rotation, cam.focal,
        cam.width, cam.height, s, now.key, now.ambient, now.lamp,
    )  # fmt: skip
    size = (cam.width, cam.height)
    flat = cv2.resize(np.sqrt(now.exposure * grey), size, interpolation=cv2.INTER_AREA)
    engine = np.repeat(_to_uint8(flat)[..., None], 3, axis=2)
    toned = cv2.resize(1.0 - np.exp(-1.15 * light), size, interpolation=cv2.INTER_AREA)
    return engine, grade(toned, LOOKS[look], seed=seed)


def grade(linear: Float32Array, look: Look, *, seed: int) -> UInt8Array:
    """Glow, grade, vignette and grain on a tone-mapped frame [H, W, 3] in [0, 1]."""
    height, width = linear.shape[:2]
    bright = np.maximum(linear - 0.55, 0.0)
    glow = cv2.GaussianBlur(bright, (0, 0), 0.035 * height)
    picture = np.clip(linear + look.bloom * 2.2 * glow, 0.0, 1.0) ** (1.0 / 2.2)
    picture = picture * np.asarray(look.gain, np.float32)
    luma = picture @ np.asarray([0.2126, 0.7152, 0.0722], np.float32)
    picture = luma[..., None] + look.saturation * (picture - luma[..., None])
    picture = 0.45 + look.contrast * (picture - 0.45)
    picture = picture + np.asarray(look.shadows, np.float32) * (1.0 - luma[..., None]) ** 2
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    radius = ((x / (width - 1) - 0.5) ** 2 + (y / (height - 1) - 0.5) ** 2) * 2.0
    picture = picture * (1.0 - look.vignette * radius[..., None])
    grain = np.random.default_rng(seed).standard_normal((height, width, 1), dtype=np.float32)
    return _to_uint8(picture + look.grain * grain)


def _to_uint8(picture: Float32Array) -> UInt8Array:
    return (np.clip(picture, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def _normals(now: State, hit: NDArray[np.int32], depth: NDArray[np.float64]) -> Float32Array:
    """Camera-space normals [H, W, 3]: x right, y up, z toward the camera; zeros where nothing was hit."""
    cam = now.camera
    cx, cy = cam.centre
    y, x = np.mgrid[0 : cam.height, 0 : cam.width]
    rays = np.stack([(x - cx) / cam.focal, -(y - cy) / cam.focal, np.ones_like(x, float)], -1)
    world = cam.position + depth[..., None] * (rays @ cam.rotation)
    local = normals_at(now.table, hit, world) @ cam.rotation.T
    local[..., 2] *= -1.0
    return np.where((hit >= 0)[..., None], local, 0.0).astype(np.float32)


def project_joints(now: State, depth: NDArray[np.float64]) -> Float32Array:
    """OpenPose points [P, 18, 3]: x, y in pixels, and 0 outside the frame, 1 hidden, 2 seen."""
    cam = now.camera
    out = np.zeros((len(now.points), 18, 3), np.float32)
    for figure, world in enumerate(now.points):
        pixels, z = cam.project(world)
        out[figure, :, :2] = pixels
        column, row = np.rint(pixels[:, 0]).astype(int), np.rint(pixels[:, 1]).astype(int)
        inside = (z > 0.05) & (column >= 0) & (row >= 0) & (column < cam.width) & (row < cam.height)
        seen = depth[np.clip(row, 0, cam.height - 1), np.clip(column, 0, cam.width - 1)]
        out[figure, :, 2] = np.where(inside, np.where(z - seen < _JOINT_SLACK, 2, 1), 0)
    return out
