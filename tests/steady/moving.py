"""A texture that turns, grows and slides under the camera: frames and flow known exactly, no occlusion."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

SIZE, NUM_FRAMES = 96, 24
CANVAS = 768
OVERSAMPLE = 3


def noise(seed: int, *, sigma: float, strength: float, size: int = SIZE) -> np.ndarray:
    """Smooth noise [size, size, 3] with the given standard deviation."""
    values = np.random.default_rng(seed).standard_normal((size, size, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(values, (0, 0), sigma)
    return strength * smooth / smooth.std()


@cache
def texture() -> np.ndarray:
    layers = [
        noise(seed, sigma=sigma, strength=strength, size=CANVAS)
        for seed, sigma, strength in ((1, 24, 0.12), (2, 6, 0.10), (3, 2.5, 0.05))
    ]
    return np.clip(0.45 + sum(layers), 0, 1).astype(np.float32)


def placement(t: int) -> tuple[np.ndarray, np.ndarray]:
    """Frame pixels (from the centre) to canvas pixels at frame t: a matrix [2, 2] and an offset [2]."""
    angle, scale = 0.004 * t, 3.0 * (1.0 + 0.003 * t)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return turn, np.array([CANVAS / 2 + 2.1 * t, CANVAS / 2 + 0.9 * t])


def grid() -> np.ndarray:
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float64)
    return np.stack([x - SIZE / 2, y - SIZE / 2], axis=-1)


@cache
def frame(t: int) -> np.ndarray:
    """float32 RGB [H, W, 3] in [0, 1], anti-aliased."""
    turn, offset = placement(t)
    total = np.zeros((SIZE, SIZE, 3), np.float32)
    for i in range(OVERSAMPLE):
        for j in range(OVERSAMPLE):
            sub = (np.array([i, j]) + 0.5) / OVERSAMPLE - 0.5
            place = ((grid() + sub) @ turn.T + offset).astype(np.float32)
            total += cv2.remap(texture(), place[..., 0], place[..., 1], cv2.INTER_LINEAR)
    return total / OVERSAMPLE**2


def flow(t: int, to: int) -> np.ndarray:
    """Exact flow from frame t to frame `to`: float32 [H, W, 2] in pixels."""
    turn, offset = placement(t)
    other_turn, other_offset = placement(to)
    there = (grid() @ turn.T + offset - other_offset) @ np.linalg.inv(other_turn).T
    return (there - grid()).astype(np.float32)


def to_uint8(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
