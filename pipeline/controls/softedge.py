"""Soft white lines on black, like those of HED and PiDiNet, from the renderer's passes and the picture.

This is our own approximation, not the learned detectors: outlines are known exactly where there are passes,
and the picture adds what only it shows (patterns, shadows). Every threshold is fixed, so that lines do not
flicker.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Masks = npt.NDArray[np.float32]  # [H, W] in [0, 1]

# The lines' sigma in pixels of a 512 px picture: HED's are about 5 px wide there.
_SIGMA = 2.0
_SIDE = 512
_SMALLEST_SIGMA = 0.7
# Disparity is linear in the picture on any plane, so its second difference is 0 there. Relative to the
# nearest of the three pixels: below the first nothing is drawn, from the second on a full line.
_DEPTH_BEND = (0.03, 0.15)
# Degrees between neighbouring normals: a ball of 10 px radius turns by 6 a pixel, a cube's edge by 90.
_CREASE = (20.0, 60.0)
# Contrast of a step in the picture, 1 = black to white.
_CONTRAST = (0.06, 0.40)
_PART_BORDER = 0.6  # between parts of one figure; its outline and every other border of ids are 1
_PART_BITS = 8  # an id is 256 * figure + part


def softedge_map(
    frames: npt.NDArray[np.uint8],  # [T, H, W, 3]
    *,
    depth: Float32 | None = None,  # [T, H, W]
    normals: Float32 | None = None,  # [T, H, W, 3]
    ids: npt.NDArray[np.uint32] | None = None,  # [T, H, W]
) -> npt.NDArray[np.uint8]:
    """Draw every frame's soft edges.

    `frames` uint8 RGB [T, H, W, 3]; the passes, where there are any, at the same size: `depth` in metres (inf
    where nothing was hit), `normals` in camera space (nan or 0 where nothing was hit), `ids` 256 * figure +
    part. Returns uint8 [T, H, W, 3], three equal channels. Raises ValueError for shapes that disagree.
    """
    check_passes("softedge_map", frames, depth=depth, normals=normals, ids=ids)
    out = np.empty(frames.shape, np.uint8)
    for t, frame in enumerate(frames):
        sigma = max(_SMALLEST_SIGMA, _SIGMA * min(frame.shape[:2]) / _SIDE)
        known = pass_edges(t, frame.shape[:2], depth=depth, normals=normals, ids=ids)
        lines = np.maximum(drawn(known, sigma), picture_edges(frame, sigma))
        out[t] = np.rint(255.0 * lines)[..., None]
    return out


def check_passes(
    caller: str, frames: npt.NDArray[np.uint8], **passes: npt.NDArray[np.generic] | None
) -> None:
    """Raise ValueError where a pass is not of the frames' count and size."""
    for name, values in passes.items():
        if values is not None and values.shape[:3] != frames.shape[:3]:
            raise ValueError(f"{caller}: {name} {values.shape} for frames {frames.shape}")


def pass_edges(
    t: int,
    size: tuple[int, ...],
    *,
    depth: Float32 | None,
    normals: Float32 | None,
    ids: npt.NDArray[np.uint32] | None,
) -> Masks:
    """What the passes of frame t know of edges, float32 [H, W] in [0, 1]: the strongest; 0 of none."""
    known = np.zeros(size, np.float32)
    if depth is not None:
        known = np.maximum(known, depth_edges(depth[t]))
    if normals is not None:
        known = np.maximum(known, crease_edges(normals[t]))
    if ids is not None:
        known = np.maximum(known, id_edges(ids[t]))
    return known


def depth_edges(depth: Float32) -> Masks:
    """1 where one surface ends before another, float32 [H, W]; 0 on every plane, however slanted."""
    hit = depth > 0  # nan compares false
    disparity = np.where(hit, 1.0 / np.where(hit, depth, 1.0), 0.0).astype(np.float32)  # 0: nothing hit
    edges = np.zeros(depth.shape, np.float32)
    for axis in (0, 1):
        before, here, after = (_along(disparity, axis, start) for start in (0, 1, 2))
        nearest = np.maximum(np.maximum(before, here), after)
        bend = np.abs(before - 2 * here + after) / np.maximum(nearest, 1e-9)
        _along(edges, axis, 1)[...] = np.maximum(_along(edges, axis, 1), _ramp(bend, *_DEPTH_BEND))
    return edges


def crease_edges(normals: Float32) -> Masks:
    """1 where the surface turns sharply from a pixel to the next, float32 [H, W]; background is left out."""
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    unit = np.where(length > 0, normals / np.where(length > 0, length, 1.0), np.nan)  # [H, W, 3]
    edges = np.zeros(normals.shape[:2], np.float32)
    for axis in (0, 1):
        first, second = _pairs(unit, axis)
        cosine = np.clip(np.nan_to_num((first * second).sum(axis=-1), nan=1.0), -1.0, 1.0)
        _mark(edges, axis, _ramp(np.degrees(np.arccos(cosine)), *_CREASE))
    return edges


def id_edges(ids: npt.NDArray[np.uint32]) -> Masks:
    """1 along the borders of figures, less along those of their parts, float32 [H, W]."""
    edges = np.zeros(ids.shape, np.float32)
    for axis in (0, 1):
        first, second = _pairs(ids, axis)
        figure = (first >> _PART_BITS) != (second >> _PART_BITS)
        strength = np.where(figure, 1.0, np.where(first != second, _PART_BORDER, 0.0))
        _mark(edges, axis, strength.astype(np.float32))
    return edges


def picture_edges(frame: npt.NDArray[np.uint8], sigma: float) -> Masks:
    """Edges of the picture alone, float32 [H, W]: the contrast of the step that would give this gradient.

    The gradient is half the difference of the pixels on both sides, which a step of contrast 1 between two
    pixels, under the Gaussian, makes (F(1.5) - F(-0.5)) / 2 with F the error integral. The channel that
    changes most counts.
    """
    import cv2

    unit = frame.astype(np.float32) / 255.0
    smooth = cv2.GaussianBlur(unit, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    dx = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=1, scale=0.5, borderType=cv2.BORDER_REPLICATE)
    dy = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=1, scale=0.5, borderType=cv2.BORDER_REPLICATE)
    gradient: Masks = np.hypot(dx, dy).max(axis=-1)  # [H, W] per pixel
    of_a_step = (_gaussian_below(1.5 / sigma) - _gaussian_below(-0.5 / sigma)) / 2
    return _ramp(gradient / np.float32(of_a_step), *_CONTRAST)


def _gaussian_below(x: float) -> float:
    """The share of a Gaussian of sigma 1 below x."""
    return 0.5 * (1.0 + math.erf(x / math.sqrt(2.0)))


def drawn(edges: Masks, sigma: float) -> Masks:
    """Thin edges as soft lines whose middle keeps their strength."""
    import cv2

    soft: Masks = cv2.GaussianBlur(edges, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    lines: Masks = np.minimum(soft * np.float32(sigma * math.sqrt(2 * math.pi)), np.float32(1.0))
    return lines


def _ramp(values: Masks, low: float, high: float) -> Masks:
    """Smoothstep from 0 at `low` to 1 at `high`."""
    u = np.clip((values - low) / (high - low), 0.0, 1.0)
    return np.asarray(u * u * (3.0 - 2.0 * u), np.float32)


def _along(values: npt.NDArray[np.float32], axis: int, start: int) -> npt.NDArray[np.float32]:
    """The view that starts at pixel 0, 1 or 2 of three neighbours along an axis."""
    stop = values.shape[axis] - 2 + start
    return values[start:stop] if axis == 0 else values[:, start:stop]


def _pairs(values: npt.NDArray, axis: int) -> tuple[npt.NDArray, npt.NDArray]:  # type: ignore[type-arg]
    return (values[:-1], values[1:]) if axis == 0 else (values[:, :-1], values[:, 1:])


def _mark(edges: Masks, axis: int, strength: Masks) -> None:
    """Put the strength of a border between two pixels on the first of them, in place."""
    first, _ = _pairs(edges, axis)
    np.maximum(first, strength, out=first)
