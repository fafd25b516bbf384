"""What a picture hides of its neighbour where only pictures and estimated vectors tell.

Estimated vectors slip on plain walls and spill over outlines, so that going there and back misses by pixels
where nothing is hidden: by that test 5 % of a stage render is hidden, though 1 % is. What is hidden has two
marks: no vector of the other picture leads to it, and where its own vector leads, the picture is another.
Either alone says little (`python -m benchmarks.occlusion`).
"""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.image import Float32Array, UInt8Array
from pipeline.steady.warp import BoolArray, in_frame, warp

LANDING_SIGMA = 1.2  # pixels: vectors of a surface that shrinks leave every other pixel out
FEWEST_LANDING = 0.9  # of a vector a pixel: below, the place is not seen in the other picture
SMOOTH_SIGMA = 1.0  # pixels, for grain
OVER_THE_USUAL = 2.5  # times the picture's median difference, which is its grain
LEAST_DIFFERENCE = 4.0  # levels of 255


def seen_by_pictures(
    here: UInt8Array, there: UInt8Array, onward: Float32Array, back: Float32Array
) -> BoolArray:
    """What of `here` is seen in `there`, bool [H, W]; what leaves the frame is not.

    Pictures uint8 RGB [H, W, 3]; `onward` float32 [H, W, 2] leads from here to there, `back` from there here.
    """
    differs = np.abs(warp(there.astype(np.float32), onward) - here.astype(np.float32)).max(axis=2)
    smooth = cv2.GaussianBlur(np.ascontiguousarray(differs), (0, 0), SMOOTH_SIGMA)
    another = smooth > max(LEAST_DIFFERENCE, OVER_THE_USUAL * float(np.median(smooth)))
    bare = cv2.GaussianBlur(landing(back), (0, 0), LANDING_SIGMA) < FEWEST_LANDING
    seen: BoolArray = in_frame(onward) & ~(bare & another)
    return seen


def landing(flow: Float32Array) -> Float32Array:
    """How many vectors end at each pixel, bilinear shares added up: float32 [H, W] of [H, W, 2]."""
    height, width = flow.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x + flow[..., 0], y + flow[..., 1]
    left, top = np.floor(x), np.floor(y)
    total = np.zeros(height * width)
    for down in (0, 1):
        for right in (0, 1):
            column, row = left + right, top + down
            weight = np.abs(1 - right - (x - left)) * np.abs(1 - down - (y - top))
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)  # False for nan
            index = (row[inside] * width + column[inside]).astype(np.intp)
            total += np.bincount(index, weight[inside], height * width)
    return total.reshape(height, width).astype(np.float32)
