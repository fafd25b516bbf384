"""How near a picture is to a known truth: PSNR, SSIM, and whether it keeps the scene's structure.

Pictures are uint8 RGB [H, W, 3] of one size.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.image import Float32Array, UInt8Array
from pipeline.steady.metrics import luma
from pipeline.steady.warp import BoolArray

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5  # Wang et al. 2004, section III-C
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # K1, K2 of the same, for luma in [0, 1]

DEPTH_STEP = 0.08  # of the depth: neighbours that differ by more lie on two surfaces
EDGE_REACH = 1  # pixels: an edge may be drawn this far beside its place
CLEAR_OF_EDGES = 3  # pixels from any depth edge: where no edge is expected

JOINT_PATCH = (
    9  # pixels either way of a joint at 128 px of height: most of a limb's width and its surroundings
)
JOINT_SEARCH = 6  # pixels either way in which the patch is looked for
JOINT_TOLERANCE = 2.0  # pixels; "found" means this near


def psnr(picture: UInt8Array, truth: UInt8Array) -> float:
    """10 log10(255^2 / mean squared difference) in dB over all channels; inf for equal pictures."""
    _check(picture, truth)
    mean_square = float(np.square(picture.astype(np.float64) - truth.astype(np.float64)).mean())
    return float("inf") if mean_square == 0.0 else 10.0 * float(np.log10(255.0**2 / mean_square))


def ssim(picture: UInt8Array, truth: UInt8Array) -> float:
    """Structural similarity of the luma in [-1, 1], 1 for equal pictures (Wang et al. 2004, eq. 13 and 17).

    Gaussian window of 11 x 11, sigma 1.5; only windows that lie wholly on the picture count.
    """
    _check(picture, truth)
    x, y = luma(picture).astype(np.float64), luma(truth).astype(np.float64)
    mean_x, mean_y = _window(x), _window(y)
    variance_x, variance_y = _window(x * x) - mean_x**2, _window(y * y) - mean_y**2
    covariance = _window(x * y) - mean_x * mean_y
    likeness = ((2.0 * mean_x * mean_y + SSIM_C1) * (2.0 * covariance + SSIM_C2)) / (
        (mean_x**2 + mean_y**2 + SSIM_C1) * (variance_x + variance_y + SSIM_C2)
    )
    return float(likeness.mean())


def depth_edges(depth: Float32Array) -> BoolArray:
    """Pixels on either side of a jump in depth: bool [H, W] from float32 [H, W] metres (inf allowed)."""
    nearness = np.where(np.isfinite(depth), 1.0 / np.maximum(depth, 1e-3), 0.0).astype(np.float32)
    edges = np.zeros(depth.shape, bool)
    for axis in (0, 1):
        here, there = np.moveaxis(nearness, axis, 0)[:-1], np.moveaxis(nearness, axis, 0)[1:]
        jump = np.abs(here - there) > DEPTH_STEP * np.maximum(here, there)
        marked = np.moveaxis(edges, axis, 0)  # a view: writing to it writes to `edges`
        marked[:-1] |= jump
        marked[1:] |= jump
    return edges


def depth_edge_agreement(picture: UInt8Array, depth: Float32Array) -> float | None:
    """How surely the picture draws the scene's outlines: 0.5 = by chance, 1 = always.

    The probability that a pixel at a depth edge has a stronger gradient (the best within `EDGE_REACH`) than a
    pixel clear of all of them: the area under the ROC curve, so neither contrast nor a threshold matters.
    None for a frame without depth edges or without any place clear of them.
    """
    edges = depth_edges(depth)
    clear = ~_grow(edges, CLEAR_OF_EDGES)
    if not edges.any() or not clear.any():
        return None
    strength = _grow_values(_gradient(picture), EDGE_REACH)
    return _probability_greater(strength[edges], strength[clear])


def joint_agreement(picture: UInt8Array, truth: UInt8Array, points: NDArray[np.float32]) -> tuple[int, int]:
    """How many of the seen joints are drawn in their place: (found, looked for).

    `points`: float32 [..., 3], x, y in pixels and 2 = seen. Round each seen joint the truth's patch of
    gradients is looked for in the picture (normalised correlation); it is found if the best place is within
    `JOINT_TOLERANCE` pixels. Joints nearer to the frame's edge than patch and search are left out, and flat
    ones.
    """
    _check(picture, truth)
    drawn, wanted = _gradient(picture), _gradient(truth)
    margin = JOINT_PATCH + JOINT_SEARCH
    height, width = drawn.shape
    found = looked_for = 0
    for x, y, seen in points.reshape(-1, 3):
        column, row = round(float(x)), round(float(y))
        inside = margin <= column < width - margin and margin <= row < height - margin
        if seen != 2 or not inside:
            continue
        patch = _square(wanted, row, column, JOINT_PATCH)
        if float(patch.std()) < 1e-3:
            continue
        scores = cv2.matchTemplate(_square(drawn, row, column, margin), patch, cv2.TM_CCOEFF_NORMED)
        best_row, best_column = np.unravel_index(int(np.argmax(scores)), scores.shape)
        offset = np.hypot(best_row - JOINT_SEARCH, best_column - JOINT_SEARCH)
        looked_for += 1
        found += int(offset <= JOINT_TOLERANCE)
    return found, looked_for


def _check(picture: UInt8Array, truth: UInt8Array) -> None:
    if picture.shape != truth.shape:
        raise ValueError(f"the picture is {picture.shape}, the truth {truth.shape}; expected one size")


def _window(values: NDArray[np.float64]) -> NDArray[np.float64]:
    half = SSIM_WINDOW // 2
    blurred = cv2.GaussianBlur(values, (SSIM_WINDOW, SSIM_WINDOW), SSIM_SIGMA)
    whole: NDArray[np.float64] = blurred[half:-half, half:-half]
    return whole


def _gradient(picture: UInt8Array) -> Float32Array:
    """Gradient magnitude over the three channels, float32 [H, W], per pixel of values in [0, 1]."""
    values = picture.astype(np.float32) / np.float32(255.0)
    gx = cv2.Scharr(values, cv2.CV_32F, 1, 0, scale=1.0 / 32.0, borderType=cv2.BORDER_REPLICATE)
    gy = cv2.Scharr(values, cv2.CV_32F, 0, 1, scale=1.0 / 32.0, borderType=cv2.BORDER_REPLICATE)
    magnitude: Float32Array = np.sqrt((gx**2 + gy**2).sum(axis=2))
    return magnitude


def _grow(mask: BoolArray, reach: int) -> BoolArray:
    return _grow_values(mask.astype(np.float32), reach) > 0


def _grow_values(values: Float32Array, reach: int) -> Float32Array:
    grown: Float32Array = cv2.dilate(values, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    return grown


def _square(values: Float32Array, row: int, column: int, half: int) -> Float32Array:
    return np.ascontiguousarray(values[row - half : row + half + 1, column - half : column + half + 1])


def _probability_greater(a: Float32Array, b: Float32Array) -> float:
    """P(a > b) + P(a = b) / 2 for values drawn from each (Mann-Whitney U over n m)."""
    order = np.sort(b)
    below = np.searchsorted(order, a, side="left")
    up_to = np.searchsorted(order, a, side="right")
    return float((below + up_to).mean() / (2.0 * len(b)))
