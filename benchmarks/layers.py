"""Textured shapes that move over textured ground, as filmed things do: pictures, exact vectors, what hides.

The stage's engine look has hardly any texture, so that estimated vectors fail there in a way that they do not
on film. These pictures have texture of many sizes, grain, and edges that are mixtures. All from formulas.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.image import Float32Array, UInt8Array
from pipeline.steady.warp import BoolArray

NUM_SHAPES = 3
DRIFT, LEAP, TURN = 3.0, 9.0, 0.03  # pixels of the ground, of shapes on top of it, radians a frame at most
GRAIN = 3.0  # levels
OCTAVES = ((2, 0.5), (5, 0.8), (16, 1.0), (50, 1.0))  # size of the grain of texture in pixels, and its share
MARGIN = 64  # pixels of ground beyond the frame

Points = tuple[NDArray[np.float64], NDArray[np.float64]]  # x, y of each pixel, both [H, W]


@dataclass(frozen=True)
class Pair:
    """Pictures t and t + 1 uint8 RGB [H, W, 3], exact flow both ways [H, W, 2], and what the other sees."""

    earlier: UInt8Array
    later: UInt8Array
    forward: Float32Array
    backward: Float32Array
    seen_later: BoolArray
    seen_earlier: BoolArray


@dataclass(frozen=True)
class _Shape:
    """A wavy disc; the ground is one without an end. Its texture is float32 RGB, the middle its origin."""

    texture: Float32Array
    centre: tuple[float, float]
    radii: tuple[float, float]
    step: tuple[float, float]
    turn: float
    phase: float

    def own(self, x: NDArray[np.float64], y: NDArray[np.float64], t: float) -> Points:
        """Places of frame t on the shape."""
        across, down = x - self.centre[0] - self.step[0] * t, y - self.centre[1] - self.step[1] * t
        cos, sin = np.cos(self.turn * t), np.sin(self.turn * t)
        return cos * across + sin * down, -sin * across + cos * down

    def placed(self, u: NDArray[np.float64], v: NDArray[np.float64], t: float) -> Points:
        """The way back from `own`."""
        cos, sin = np.cos(self.turn * t), np.sin(self.turn * t)
        x = cos * u - sin * v + self.centre[0] + self.step[0] * t
        return x, sin * u + cos * v + self.centre[1] + self.step[1] * t

    def depth_inside(self, x: NDArray[np.float64], y: NDArray[np.float64], t: float) -> NDArray[np.float64]:
        """About how many pixels a place lies inside the outline; below 0 outside."""
        u, v = self.own(x, y, t)
        around = np.arctan2(v / self.radii[1], u / self.radii[0])
        edge = 1.0 + 0.15 * np.sin(3 * around + self.phase)
        inside: NDArray[np.float64] = (edge - np.hypot(u / self.radii[0], v / self.radii[1])) * min(
            self.radii
        )
        return inside


def pair(seed: int, *, size: int = 384) -> Pair:
    """Two pictures of random shapes; one seed, one pair."""
    rng = np.random.default_rng(seed)
    shapes = _shapes(rng, size)
    grid = np.mgrid[:size, :size].astype(np.float64)
    x, y = grid[1], grid[0]
    pictures = [_picture(shapes, x, y, t, rng) for t in (0, 1)]
    forward, seen_later = _carried(shapes, x, y, 0, 1)
    backward, seen_earlier = _carried(shapes, x, y, 1, 0)
    return Pair(pictures[0], pictures[1], forward, backward, seen_later, seen_earlier)


def _shapes(rng: np.random.Generator, size: int) -> list[_Shape]:
    drift = rng.uniform(-DRIFT, DRIFT, 2)
    middle = (size / 2, size / 2)
    ground = (1e6, 1e6)
    found = [_Shape(_texture(rng, size), middle, ground, (drift[0], drift[1]), 0.0, 0.0)]
    for _ in range(NUM_SHAPES):
        step = drift + rng.uniform(-LEAP, LEAP, 2)
        found.append(
            _Shape(
                _texture(rng, size),
                (rng.uniform(0.25, 0.75) * size, rng.uniform(0.25, 0.75) * size),
                (rng.uniform(0.06, 0.16) * size, rng.uniform(0.12, 0.3) * size),
                (step[0], step[1]),
                rng.uniform(-TURN, TURN),
                rng.uniform(0, 6),
            )
        )
    return found


def _texture(rng: np.random.Generator, size: int) -> Float32Array:
    side = size + 2 * MARGIN
    sheet = np.zeros((side, side), np.float32)
    for grain, share in OCTAVES:
        cells = rng.normal(0, 1, (side // grain + 2,) * 2).astype(np.float32)
        sheet += np.float32(share) * cv2.resize(cells, (side, side), interpolation=cv2.INTER_CUBIC)
    sheet *= np.float32(rng.uniform(12, 30)) / sheet.std()
    colour = rng.uniform(50, 200, 3).astype(np.float32)
    texture: Float32Array = np.clip(colour + sheet[..., None], 0, 255).astype(np.float32)
    return texture


def _picture(
    shapes: list[_Shape],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    t: float,
    rng: np.random.Generator,
) -> UInt8Array:
    light = np.zeros((*x.shape, 3))
    for shape in shapes:
        u, v = (each + shape.texture.shape[0] / 2 for each in shape.own(x, y, t))
        drawn = cv2.remap(shape.texture, u.astype(np.float32), v.astype(np.float32), cv2.INTER_CUBIC)
        cover = np.clip(shape.depth_inside(x, y, t) + 0.5, 0, 1)[..., None]  # an edge of one pixel
        light = light * (1 - cover) + drawn * cover
    return np.clip(light + rng.normal(0, GRAIN, light.shape), 0, 255).astype(np.uint8)


def _carried(
    shapes: list[_Shape], x: NDArray[np.float64], y: NDArray[np.float64], here: float, there: float
) -> tuple[Float32Array, BoolArray]:
    """Exact flow [H, W, 2] from frame `here` to `there`, and what of `here` is seen there."""
    flow, seen = np.zeros((*x.shape, 2)), np.zeros(x.shape, np.bool_)
    for level, shape in enumerate(shapes):
        mine = shape.depth_inside(x, y, here) >= 0
        to_x, to_y = shape.placed(*shape.own(x, y, here), there)
        height, width = x.shape
        free = (to_x >= 0) & (to_x <= width - 1) & (to_y >= 0) & (to_y <= height - 1)
        for above in shapes[level + 1 :]:
            free &= above.depth_inside(to_x, to_y, there) < 0
        flow[mine] = np.stack([to_x - x, to_y - y], axis=2)[mine]
        seen[mine] = free[mine]
    return flow.astype(np.float32), seen
