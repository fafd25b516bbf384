"""Which surface points of this frame were seen in the frame before.

The stage and some renderers write the exact answer as the `visible` pass; otherwise it follows from geometry:
nothing of the frame before stands in front of the point. Passes hold one sample a pixel, so an outline is
known to half a pixel in each frame; both frames' samples together place it better (`python -m
benchmarks.occlusion`).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.image import Float32Array, UInt32Array
from pipeline.steady.warp import BoolArray, in_frame, source_points, warp

VISIBLE_NEXT = 1  # bit 0 of the visible pass: seen in t+1
VISIBLE_PREVIOUS = 2  # bit 1: seen in t-1
DEPTH_TOLERANCE = 0.05  # share of the depth; a walk towards the lens changes it by up to 3 % a frame
ERODE_PIXELS = 1  # edge pixels are mixtures of two surfaces and follow neither
SOFT_SIGMA = 0.7  # pixels; the mask falls over about two pixels, so that no seam shows
# Of one id, what is nearer by this share of the depth and by two pixels' slope is another surface in front.
NEARER = 0.01
SLOPES = 2.0
# Of another id, what is not farther by this share is in front: where limbs touch, depths are all but equal.
TOUCHING = 0.003
REACH = 2  # pixels round a point whose change of depth stands for its own
NOTHING = np.float32(1e9)  # metres: stands for inf, where nothing was hit
ROUND_TRIP = 1.0  # pixels: there and back again must end this near, where no pass tells what is seen
IntArray = NDArray[np.intp]


def seen_before(
    *,
    ids_now: UInt32Array,
    ids_previous: UInt32Array,
    depth_now: Float32Array,
    depth_previous: Float32Array,
    backward_flow: Float32Array,
    forward_previous: Float32Array | None = None,
) -> BoolArray:
    """The hard mask by geometry, bool [H, W]: in frame, the surface is found there, and nothing covers it.

    `ids_*`: uint32 [H, W]; `depth_*`: float32 [H, W] in metres, inf = nothing; `backward_flow`: float32
    [H, W, 2] in pixels, t -> t-1; `forward_previous`: the same of the frame before, t-1 -> t, which makes
    outlines surer. All alike in `ids` or `depth` means that the pass is not there. ValueError if sizes
    differ.
    """
    _check_sizes(ids_now, ids_previous, depth_now, depth_previous, backward_flow)
    now = _Surfaces.of(ids_now, depth_now)
    previous = _Surfaces.of(ids_previous, depth_previous)
    seen = in_frame(backward_flow)
    x, y = source_points(backward_flow)
    points = np.flatnonzero(seen & ~_plain(now, previous, x, y))
    if len(points):
        seen.reshape(-1)[points] = _seen_at(now, previous, points, x, y, forward_previous)
    return seen


def seen_both_ways(
    forward: Float32Array,
    backward: Float32Array,
    *,
    ids: UInt32Array | None = None,
    depth: Float32Array | None = None,
) -> tuple[BoolArray, BoolArray]:
    """Which pixels of frame t are seen in t + 1, and which of t + 1 in t: each bool [H, W].

    `forward`: float32 [H, W, 2] in pixels, t -> t + 1; `backward`: t + 1 -> t; `ids` uint32 and `depth`
    float32 in metres, both [2, H, W]: t and t + 1. Without either pass, by going there and back.
    """
    if ids is None and depth is None:
        return round_trip(forward, backward), round_trip(backward, forward)
    ids = np.zeros((2, *forward.shape[:2]), np.uint32) if ids is None else ids
    depth = np.full(ids.shape, np.inf, np.float32) if depth is None else depth
    onward, back = (
        seen_before(
            ids_now=ids[here],
            ids_previous=ids[there],
            depth_now=depth[here],
            depth_previous=depth[there],
            backward_flow=way,
            forward_previous=way_back,
        )
        for here, there, way, way_back in ((0, 1, forward, backward), (1, 0, backward, forward))
    )
    return onward, back


def round_trip(forward: Float32Array, backward: Float32Array) -> BoolArray:
    """Where going along `forward` and back along `backward` ends within a pixel of the start: bool [H, W].

    Both float32 [H, W, 2] in pixels; false where either has no vector or the way leaves the frame.
    """
    unknown = np.logical_not(np.isfinite(backward).all(axis=2))
    back = warp(np.where(unknown[..., None], np.float32(0.0), backward), forward)
    lost = warp(unknown.astype(np.float32), forward) > 0.0
    off = np.linalg.norm(np.nan_to_num(forward, nan=0.0, posinf=0.0, neginf=0.0) + back, axis=2)
    agreed: BoolArray = in_frame(forward) & ~lost & (off <= ROUND_TRIP)
    return agreed


def soften(seen: BoolArray) -> Float32Array:
    """A mask eroded by a pixel and softened inwards: float32 [H, W] in [0, 1], 0 wherever `seen` is False."""
    size = 2 * ERODE_PIXELS + 1
    # the frame's own edge is no occlusion: outside counts as seen
    eroded = cv2.erode(seen.astype(np.float32), np.ones((size, size), np.uint8), borderValue=1.0)
    soft = cv2.GaussianBlur(eroded, (0, 0), SOFT_SIGMA, borderType=cv2.BORDER_REPLICATE)
    inward: Float32Array = np.where(seen, soft, np.float32(0.0))
    return inward


@dataclass(frozen=True)
class _Surfaces:
    """One frame's ids, depth (NOTHING for inf) and how much the depth changes from pixel to pixel, [H, W]."""

    ids: UInt32Array
    depth: Float32Array
    slope: Float32Array

    @classmethod
    def of(cls, ids: UInt32Array, depth: Float32Array) -> _Surfaces:
        finite = np.where(np.isfinite(depth), depth, NOTHING)
        return cls(ids, finite, _slope(finite))


def _slope(depth: Float32Array) -> Float32Array:
    """The change of depth along a pixel, over both axes: the smaller of both sides', so that edges tell
    nothing."""
    total = np.zeros_like(depth)
    for axis in (0, 1):
        steps = np.abs(np.diff(depth, axis=axis))
        edge = np.full_like(depth.take([0], axis), NOTHING)
        sides = np.concatenate([edge, steps], axis), np.concatenate([steps, edge], axis)
        total += np.minimum(*sides)
    return total


@dataclass(frozen=True)
class _Corners:
    """The four pixels round each of N places: flat indices and bilinear weights, both [4, N]."""

    index: IntArray
    weight: Float32Array

    @classmethod
    def round(cls, x: Float32Array, y: Float32Array, shape: tuple[int, int]) -> _Corners:
        """Of places x, y float32 [N] in pixels; beyond the frame the edge's pixel stands."""
        left, top = np.floor(x), np.floor(y)
        index, weight = [], []
        for down in (0, 1):
            for right in (0, 1):
                column = np.clip(left + right, 0, shape[1] - 1).astype(np.intp)
                row = np.clip(top + down, 0, shape[0] - 1).astype(np.intp)
                index.append(row * shape[1] + column)
                weight.append(np.abs(1 - right - (x - left)) * np.abs(1 - down - (y - top)))
        return cls(np.stack(index), np.stack(weight).astype(np.float32))


def _plain(now: _Surfaces, previous: _Surfaces, x: Float32Array, y: Float32Array) -> BoolArray:
    """Where all four pixels round the source have the same id and about the same depth: bool [H, W]."""
    corners = _Corners.round(x.reshape(-1), y.reshape(-1), now.ids.shape)
    ids, depth = now.ids.reshape(-1), now.depth.reshape(-1)
    plain = np.ones(ids.shape, np.bool_)
    for index in corners.index:
        margin = NEARER * depth + SLOPES * previous.slope.reshape(-1)[index]
        plain &= previous.ids.reshape(-1)[index] == ids
        plain &= np.abs(previous.depth.reshape(-1)[index] - depth) <= margin
    return plain.reshape(now.ids.shape)


def _seen_at(
    now: _Surfaces,
    previous: _Surfaces,
    points: IntArray,
    x: Float32Array,
    y: Float32Array,
    forward_previous: Float32Array | None,
) -> BoolArray:
    """Whether the `points` (flat indices, [N]) were seen in the frame before, at x, y there: bool [N]."""
    expected = _expected_depth(now, previous, points, x, y)
    x, y = x.reshape(-1)[points], y.reshape(-1)[points]
    ids = now.ids.reshape(-1)[points]
    corners = _Corners.round(x, y, now.ids.shape)
    in_front = _in_front(previous, corners, ids, expected)
    covered = (corners.weight * in_front).sum(axis=0)
    if forward_previous is not None:
        covered = 0.5 * covered + 0.5 * _covered_now(now, points, (x, y), corners, in_front, forward_previous)
    near = np.abs(previous.depth.reshape(-1)[corners.index] - expected)
    tolerance = DEPTH_TOLERANCE * expected + SLOPES * previous.slope.reshape(-1)[corners.index]
    found = ((previous.ids.reshape(-1)[corners.index] == ids) & (near <= tolerance)).any(axis=0)
    seen: BoolArray = found & (covered < 0.5)
    return seen


def _in_front(
    surfaces: _Surfaces, corners: _Corners, ids: UInt32Array, depth: Float32Array
) -> NDArray[np.bool_]:
    """Which corners see another surface before a point of `ids` and `depth` [N]: bool [4, N]."""
    there = surfaces.depth.reshape(-1)[corners.index]
    slope = surfaces.slope.reshape(-1)[corners.index]
    same_id = surfaces.ids.reshape(-1)[corners.index] == ids
    nearer: BoolArray = there < depth - np.where(same_id, NEARER * depth + SLOPES * slope, -TOUCHING * depth)
    return nearer


def _covered_now(
    now: _Surfaces,
    points: IntArray,
    source: tuple[Float32Array, Float32Array],
    corners: _Corners,
    in_front: NDArray[np.bool_],
    forward_previous: Float32Array,
) -> Float32Array:
    """How much of this frame says that each point was covered, float32 [N] in [0, 1].

    What covered the point moved on along its own vector. If it did cover it, it is seen there now.
    """
    vectors = forward_previous.reshape(-1, 2)[corners.index]  # [4, N, 2]
    known = in_front & np.isfinite(vectors).all(axis=2)
    weight = np.where(known, corners.weight, np.float32(0.0))
    total = weight.sum(axis=0)
    onward = (np.where(known[..., None], vectors, np.float32(0.0)) * weight[..., None]).sum(axis=0)
    onward /= np.maximum(total, 1e-6)[:, None]
    place = _Corners.round(source[0] + onward[:, 0], source[1] + onward[:, 1], now.ids.shape)
    ids, depth = now.ids.reshape(-1)[points], now.depth.reshape(-1)[points]
    covered = (place.weight * _in_front(now, place, ids, depth)).sum(axis=0)
    known_cover: Float32Array = np.where(total > 0, covered, np.float32(0.0))
    return known_cover


def _expected_depth(
    now: _Surfaces, previous: _Surfaces, points: IntArray, x: Float32Array, y: Float32Array
) -> Float32Array:
    """The depth that the `points` had in the frame before, float32 [N]: now's, and how it changed near by.

    The change is the mean over the pixels round them of the same id whose surface is found in both frames.
    """
    height, width = now.ids.shape
    row, column = np.divmod(points, width)
    ids, depth = now.ids.reshape(-1)[points], now.depth.reshape(-1)[points]
    changes, usable = [], []
    for down in range(-REACH, REACH + 1):
        for right in range(-REACH, REACH + 1):
            rows, columns = row + down, column + right
            inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
            near = np.clip(rows, 0, height - 1) * width + np.clip(columns, 0, width - 1)
            change, found = _change(now, previous, near, x, y)
            usable.append(inside & found & (now.ids.reshape(-1)[near] == ids))
            changes.append(change)
    change, use = np.stack(changes), np.stack(usable)
    mean = _mean(change, use)
    use &= np.abs(change - mean) < 2 * NEARER * depth  # what is of another surface is left out
    return depth + np.where(use.any(axis=0), _mean(change, use), mean)


def _change(
    now: _Surfaces, previous: _Surfaces, points: IntArray, x: Float32Array, y: Float32Array
) -> tuple[Float32Array, BoolArray]:
    """How the depth of `points` changed since the frame before [N], and where that is known."""
    corners = _Corners.round(x.reshape(-1)[points], y.reshape(-1)[points], now.ids.shape)
    depth = now.depth.reshape(-1)[points]
    change = (corners.weight * previous.depth.reshape(-1)[corners.index]).sum(axis=0) - depth
    same = (previous.ids.reshape(-1)[corners.index] == now.ids.reshape(-1)[points]).all(axis=0)
    known: BoolArray = same & (np.abs(change) < DEPTH_TOLERANCE * depth)
    return change, known


def _mean(values: Float32Array, use: NDArray[np.bool_]) -> Float32Array:
    """The mean over the first axis of what is used; 0 where nothing is."""
    total = np.where(use, values, np.float32(0.0)).sum(axis=0)
    mean: Float32Array = total / np.maximum(use.sum(axis=0), 1).astype(np.float32)
    return mean


def _check_sizes(*arrays: NDArray[np.generic]) -> None:
    sizes = {array.shape[:2] for array in arrays}
    if len(sizes) != 1:
        raise ValueError(f"sizes differ: {sorted(sizes)}; ids, depth and flow must be of one frame size")
