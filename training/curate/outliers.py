"""Images that do not look like the others of their trigger: the android with hair.

The head is cut out by its joints and read at five places from crown to neck. Which of them is light and which
is dark, against each other, hardly depends on the light; it does depend on who it is. An image whose pattern
has no second like it among the others is an outlier: two of the same kind do not vouch for each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.image import UInt8Array, srgb_to_linear

FloatArray = NDArray[np.float64]

MIN_HEAD = 14.0  # pixels from the neck to the middle of the head; a smaller head is not judged
MIN_JUDGED = 8  # with fewer images nothing can be said of "the others"
_NEIGHBOUR = 2  # the n-th nearest must be near: a single twin does not make a look
_MIN_DISTANCE = 0.65  # natural log of luminance: two patterns further apart are of different material
_TIMES_MEDIAN = 2.1  # and so many times what is usual among these images
_SAME_SIDE = np.radians(60.0)  # two views so far apart share 1/e; best of 25, 60 and none on stage datasets
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # Rec. 709
_BLACK = 0.01  # linear luminance that counts as black
_GRID, _REACH = 40, 0.9  # samples of the cut-out and its half width, in units of head to neck

# Where the head is read: |x| below, and y from, to; units of head to neck, y down from the head's middle.
_PLACES = (
    (0.22, -0.72, -0.55),  # crown
    (0.30, -0.50, -0.25),  # forehead
    (0.35, -0.20, 0.20),  # face
    (0.25, 0.25, 0.50),  # chin
    (0.12, 0.70, 0.88),  # neck
)


def head_pattern(picture: UInt8Array, middle: FloatArray, reach: float) -> FloatArray | None:
    """Log luminance [5] of the head from crown to neck, less its median; None where the head is not judged.

    `middle` [2] is the head's, x then y; `reach` its distance to the neck, in pixels.
    """
    if reach < MIN_HEAD:
        return None
    side = _REACH * reach
    scale = _GRID / (2.0 * side)
    shift = np.array(
        [[scale, 0.0, _GRID / 2 - middle[0] * scale], [0.0, scale, _GRID / 2 - middle[1] * scale]]
    )
    light = srgb_to_linear(picture.astype(np.float32) / 255.0).astype(np.float64) @ _LUMINANCE
    if scale < 1.0:
        light = cv2.GaussianBlur(light, (0, 0), 0.5 / scale)
    cut = cv2.warpAffine(
        light,
        shift,
        (_GRID, _GRID),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=np.nan,
    )
    y, x = (np.mgrid[:_GRID, :_GRID] - (_GRID - 1) / 2.0) / (_GRID / 2.0) * _REACH
    values = []
    for width, top, bottom in _PLACES:
        place = cut[(np.abs(x) < width) & (y > top) & (y < bottom)]
        place = place[np.isfinite(place)]
        if not len(place):
            return None
        values.append(float(np.median(np.log(place + _BLACK))))
    pattern = np.asarray(values)
    return np.asarray(pattern - np.median(pattern))


def outliers(patterns: Sequence[FloatArray | None]) -> dict[int, float]:
    """Index -> how many times the usual distance it is away from the others, for those that stand out."""
    judged = [(index, pattern) for index, pattern in enumerate(patterns) if pattern is not None]
    if len(judged) < MIN_JUDGED:
        return {}
    table = np.stack([pattern for _, pattern in judged])  # [N, 5]
    distances = np.linalg.norm(table[:, None] - table[None], axis=2)  # [N, N]
    np.fill_diagonal(distances, np.inf)
    near = np.sort(distances, axis=1)[:, _NEIGHBOUR - 1]
    usual = float(np.median(near))
    return {
        index: float(distance / max(usual, 1e-9))
        for (index, _), distance in zip(judged, near, strict=True)
        if distance > _MIN_DISTANCE and distance > _TIMES_MEDIAN * usual
    }


def unlikeness(
    patterns: Sequence[FloatArray | None], angles: Sequence[float | None]
) -> list[tuple[int, float]]:
    """Indices of judged images with how far each is from what the others lead one to expect, farthest first.

    Expected is the median of the others' patterns, those seen from about the same side counting most:
    `angles` in radians between face and camera, None where not known. This ranks and decides nothing.
    """
    judged = [(index, pattern) for index, pattern in enumerate(patterns) if pattern is not None]
    if len(judged) < MIN_JUDGED:
        return []
    table = np.stack([pattern for _, pattern in judged])  # [N, 5]
    turned = np.array([np.nan if (angle := angles[i]) is None else abs(angle) for i, _ in judged])
    apart = np.nan_to_num(turned[:, None] - turned[None], nan=_SAME_SIDE)
    weights = np.exp(-((apart / _SAME_SIDE) ** 2)) + 1e-3
    np.fill_diagonal(weights, 0.0)
    away = [
        (index, float(np.linalg.norm(pattern - _weighted_median(table, row))))
        for (index, pattern), row in zip(judged, weights, strict=True)
    ]
    return sorted(away, key=lambda pair: (-pair[1], pair[0]))


def _weighted_median(table: FloatArray, weights: FloatArray) -> FloatArray:
    """The median of each column of [N, D], rows by weight [N]."""
    order = np.argsort(table, axis=0)
    reached = np.cumsum(weights[order], axis=0) / weights.sum()
    middle = (reached < 0.5).sum(axis=0)  # [D]
    columns = np.arange(table.shape[1])
    return np.asarray(table[order[middle, columns], columns])
