"""Backward warping along flow: the picture at p is fetched from p + flow(p).

Flow is in pixels, x right, y down; pixel centres are at integer coordinates. nan or inf in a flow means "no
vector": such a pixel is fetched from its own place and is never valid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.image import Float32Array

Sampling = Literal["nearest", "bilinear", "bicubic", "lanczos"]
BoolArray = NDArray[np.bool_]
_MOST_PIXELS = 32767  # OpenCV holds whole places in 16 bits


def warp(image: NDArray[Any], flow: Float32Array, *, sampling: Sampling = "bilinear") -> NDArray[Any]:
    """Sample `image` at p + flow(p).

    `image`: uint8, float32 or (nearest only) uint32 [H, W] or [H, W, C]; `flow`: float32 [H, W, 2] in pixels.
    Returns the image's dtype and shape; uint8 is rounded to nearest. Outside the frame the edge pixel repeats
    (`in_frame` tells where). Raises ValueError for other shapes, dtypes or sampling names.
    """
    if flow.ndim != 3 or flow.shape[2] != 2 or flow.shape[:2] != image.shape[:2]:
        raise ValueError(
            f"flow is {flow.shape} for an image {image.shape}; expected [H, W, 2] of the same size"
        )
    if sampling not in _SAMPLERS:
        raise ValueError(f"sampling is {sampling!r}; expected one of {', '.join(_SAMPLERS)}")
    x, y = source_points(flow)
    return _SAMPLERS[sampling](image, x, y)


def sample(
    image: NDArray[Any], x: Float32Array, y: Float32Array, *, sampling: Sampling = "bilinear"
) -> NDArray[Any]:
    """`image` at the places of `source_points`: as `warp`, for several pictures along one flow."""
    return _SAMPLERS[sampling](image, x, y)


def largest(values: Float32Array) -> Float32Array:
    """The largest magnitude over the channels of [H, W, C]: float32 [H, W]; numpy's own is slow for few."""
    found = np.abs(values[..., 0])
    for channel in range(1, values.shape[2]):
        np.maximum(found, np.abs(values[..., channel]), out=found)
    return found


def finite(flow: Float32Array) -> BoolArray:
    """Where a flow [H, W, 2] has a vector: bool [H, W]."""
    known: BoolArray = np.isfinite(flow[..., 0]) & np.isfinite(flow[..., 1])
    return known


def source_points(flow: Float32Array) -> tuple[Float32Array, Float32Array]:
    """Where `warp` fetches from: x and y, float32 [H, W] in pixels, finite everywhere."""
    height, width = flow.shape[:2]
    columns, rows = (np.arange(side, dtype=np.float32) for side in (width, height))
    x, y = flow[..., 0] + columns[None, :], flow[..., 1] + rows[:, None]
    known = np.isfinite(x) & np.isfinite(y)
    if not known.all():
        x = np.where(known, x, columns[None, :])
        y = np.where(known, y, rows[:, None])
    return x, y


def in_frame(flow: Float32Array) -> BoolArray:
    """Where p + flow(p) lies on the frame, to half a pixel beyond the outer centres: bool [H, W]."""
    return inside(*source_points(flow)) & finite(flow)


def inside(x: Float32Array, y: Float32Array) -> BoolArray:
    """Which places lie on a frame as large, to half a pixel beyond the outer centres: bool [H, W]."""
    height, width = x.shape
    within: BoolArray = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    return within


def compose(first: Float32Array, second: Float32Array) -> Float32Array:
    """The flow of two steps in one: p -> p + first(p) -> the place that `second` sends that point to.

    Both float32 [H, W, 2]; nan where either step has no vector or the first leaves the frame. A picture is
    then sampled once however many steps it goes.
    """
    x, y = source_points(first)
    missing = ~finite(second)
    lost = ~(inside(x, y) & finite(first))
    if missing.any():
        second = np.where(missing[..., None], np.float32(0.0), second)
        lost |= sample(missing.astype(np.float32), x, y) > 0.0
    total: Float32Array = first + sample(second, x, y)
    total[lost] = np.nan
    return total


def _nearest(image: NDArray[Any], x: Float32Array, y: Float32Array) -> NDArray[Any]:
    if image.dtype in (np.uint8, np.float32) and max(image.shape[:2]) < _MOST_PIXELS:
        taken: NDArray[Any] = cv2.remap(image, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        return taken
    height, width = image.shape[:2]
    column = np.clip(np.rint(x), 0, width - 1).astype(np.intp)
    row = np.clip(np.rint(y), 0, height - 1).astype(np.intp)
    fetched: NDArray[Any] = image[row, column]
    return fetched


def _interpolate(image: NDArray[Any], x: Float32Array, y: Float32Array, method: int) -> NDArray[Any]:
    if image.dtype not in (np.uint8, np.float32):
        raise ValueError(f"image is {image.dtype}; only uint8 and float32 can be interpolated, use 'nearest'")
    fetched: NDArray[Any] = cv2.remap(image, x, y, method, borderMode=cv2.BORDER_REPLICATE)
    return fetched


# OpenCV's bilinear is exact; its bicubic (a = -0.75) and Lanczos (8 x 8) round positions to 1/32 pixel.
_SAMPLERS: Mapping[str, Callable[[NDArray[Any], Float32Array, Float32Array], NDArray[Any]]] = {
    "nearest": _nearest,
    "bilinear": partial(_interpolate, method=cv2.INTER_LINEAR),
    "bicubic": partial(_interpolate, method=cv2.INTER_CUBIC),
    "lanczos": partial(_interpolate, method=cv2.INTER_LANCZOS4),
}
