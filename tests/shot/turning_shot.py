"""A textured plane that slides, turns and swells unevenly: exact pictures and exact flow, from formulas."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

from pipeline.shot import FramePasses, Motion, Shot, open_shot, write_shot
from pipeline.shot.exr import write_channels

T, H, W = 10, 64, 96
Encode = Callable[[np.ndarray, np.ndarray], np.ndarray]


def place(t: float) -> tuple[np.ndarray, np.ndarray]:
    """The plane at frame t: matrix [2, 2] and offset [2] about the picture's middle."""
    angle, swell = 0.04 * np.sin(0.5 * t), 1.0 + 0.015 * np.sin(0.7 * t + 1.0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return swell * turn, np.array([2.5 * np.sin(0.5 * t), 2.0 * np.cos(0.45 * t)])


def surface_points(t: float) -> np.ndarray:
    """Where on the plane each pixel of frame t lies, [H, W, 2]."""
    y, x = np.mgrid[:H, :W].astype(float)
    matrix, offset = place(t)
    return (np.stack([x - W / 2, y - H / 2], axis=-1) - offset) @ np.linalg.inv(matrix).T


def flow(t: int, other: int) -> np.ndarray:
    """Exact flow from frame t to `other`, float32 [H, W, 2]."""
    matrix, offset = place(other)
    y, x = np.mgrid[:H, :W].astype(float)
    there = surface_points(t) @ matrix.T + offset + np.array([W / 2, H / 2])
    return (there - np.stack([x, y], axis=-1)).astype(np.float32)


def picture(t: int) -> np.ndarray:
    """uint8 [H, W, 3]."""
    u, v = np.moveaxis(surface_points(t), -1, 0)
    luma = np.sin(u / 1.9) * np.cos(v / 2.3) + 0.6 * np.sin((u + 1.7 * v) / 3.1) + 0.4 * np.cos(u / 7 - v / 5)
    return np.repeat((127.5 + 55 * luma).astype(np.uint8)[..., None], 3, axis=2)


def size() -> np.ndarray:
    return np.array([W, H], np.float32)


def make_turning_shot(
    root: Path, encode: Encode | None = None, *, held: bool = False, noise: float = 0.0
) -> Shot:
    """Write the shot; `encode` (forward, backward) -> [H, W, C] stored as R G B A replaces the motion pass.

    `held` repeats the first picture, with the moving vectors; `noise` is the standard deviation, in levels,
    of what differs from frame to frame.
    """
    forward = np.stack([flow(t, t + 1) for t in range(T)])
    backward = np.stack([flow(t, t - 1) for t in range(T)])
    rgb = np.stack([picture(0 if held else t) for t in range(T)])
    if noise:
        drawn = np.random.default_rng(0).normal(0, noise, rgb.shape[:3])[..., None]
        rgb = np.clip(rgb + drawn, 0, 255).astype(np.uint8)
    shot = write_shot(root, [FramePasses(rgb=rgb, motion=Motion(forward, backward))], fps=Fraction(24))
    if encode is None:
        return shot
    for t, path in enumerate(shot.passes["motion"].files):
        stored = encode(forward[t], backward[t])
        planes = {"RGBA"[k]: np.ascontiguousarray(stored[..., k]) for k in range(stored.shape[2])}
        write_channels(path, planes)
    return open_shot(root)
