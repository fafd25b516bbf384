"""Which way in time a vector field points, from three pictures in a row.

At even speed "to t-1" and "to t+1, negated" are the same numbers, so the warp error alone hardly tells them
apart. Where a point speeds up by A pixels a frame squared, the wrong reading misses it by A, and to first
order its picture by -grad I . A. So with r_past, r_next the differences of both warped neighbours,

    r_next - r_past = -T grad I . A + light,    T = +1 for "to t-1", -1 for "to t+1"

is a least-squares line in T. Light that changes is linear in the velocity, the gradient and the brightness
and gets its own columns, which keeps it out of T; the error of T comes from the spread between frames. What
light is left shifts T the more the coarser the detail that is looked at, so two bands have to agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.image import Float32Array
from pipeline.shot.fetch import fetch

BAND = (0.8, 1.6)  # pixels; edges between these sigmas carry position, wider shades carry light
COARSER_BAND = (1.2, 4.0)
AGREEMENT = 0.7  # of the slopes in both bands; right and wrong lie 2 apart
EVEN_TOLERANCE = 0.3  # the acceleration seen from both sides may differ by this share, else it is an edge
EVEN_SLACK = 0.02  # pixels, on top
LARGEST_STEP = 1.5  # pixels of acceleration; beyond, the first order is not true
LARGEST_CHANGE = 0.1  # of the brightness range
SAME_PIXELS = 0.05  # both readings agree to this: the figure wanted of a read-back
ODDS = 9.2  # log-likelihood ratio asked for: 10,000 to 1
PLAUSIBLE = 2.5  # a slope beyond is neither reading but something that the line does not model


@dataclass(frozen=True)
class Arrow:
    """The slope T (+1: vectors point to t-1, -1: to t+1), its standard error, and how much speed changes.

    `step` is the 99th percentile of the acceleration in pixels: below 0.05 both readings are the same.
    `coarser` is the slope in coarser detail.
    """

    slope: float
    error: float
    step: float
    coarser: float

    @property
    def log_odds(self) -> float:
        """log P(data | to t-1) / P(data | to t+1) for Gaussian errors; 0 where neither can be."""
        if not abs(self.slope) <= PLAUSIBLE or abs(self.slope - self.coarser) > AGREEMENT:
            return 0.0
        return 2.0 * self.slope / max(self.error, 0.05) ** 2

    @property
    def direction(self) -> str | None:
        """ "backward" or "forward", None where it cannot be told."""
        if abs(self.log_odds) < ODDS:
            return None
        return "backward" if self.log_odds > 0 else "forward"

    @property
    def even(self) -> bool:
        """Whether nothing speeds up, so that both readings give the same flow to 0.05 px."""
        return self.step < SAME_PIXELS


@dataclass(frozen=True)
class Moment:
    """Three frames in a row: luma float32 [3, H, W] in [0, 1], flow read as "to t-1" float32 [3, H, W, 2]."""

    luma: Float32Array
    flow: Float32Array


def time_arrow(moments: Iterable[Moment]) -> Arrow:
    """Fit T over all moments; memory is one moment. An error of inf where there is nothing to see."""
    fits, steps = (_Fit(), _Fit()), []
    for moment in moments:
        for fit, band in zip(fits, (BAND, COARSER_BAND), strict=True):
            columns, change, acceleration = _evidence(moment, band)
            fit.add(columns, change)
        steps.append(acceleration)
    step = float(np.percentile(np.concatenate(steps), 99)) if any(map(len, steps)) else 0.0
    (slope, error), (coarser, _) = (fit.slope() for fit in fits)
    return Arrow(slope, error, step, coarser)


class _Fit:
    """Least squares over frames whose columns are not kept."""

    def __init__(self) -> None:
        self._products: list[NDArray[np.float64]] = []
        self._moved: list[NDArray[np.float64]] = []

    def add(self, columns: NDArray[np.float64], change: NDArray[np.float64]) -> None:
        """A frame's columns [N, 6] and what they explain [N]."""
        self._products.append(columns.T @ columns)
        self._moved.append(columns.T @ change)

    def slope(self) -> tuple[float, float]:
        """The first column's coefficient and its error."""
        total = np.sum(self._products, axis=0)
        if len(self._products) < 3 or np.linalg.matrix_rank(total) < len(total):
            return 0.0, float("inf")
        inverse = np.linalg.inv(total)
        fit = inverse @ np.sum(self._moved, axis=0)
        scores = np.stack([b - a @ fit for a, b in zip(self._products, self._moved, strict=True)])
        spread = inverse @ (scores.T @ scores) @ inverse  # clustered by frame (Liang & Zeger 1986)
        return float(fit[0]), float(np.sqrt(spread[0, 0]))


def _evidence(
    moment: Moment, band: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Columns [N, 6], change of brightness [N] of the usable pixels, and acceleration [M] where known."""
    missing = np.logical_not(np.isfinite(moment.flow).all(axis=3))
    flow = np.where(missing[..., None], np.float32(0.0), moment.flow)
    now = flow[1]
    picture = np.stack([_band(luma, band) for luma in moment.luma])
    before, seen_before = fetch(np.dstack([flow[0], missing[0].astype(np.float32)]), now)
    after, seen_after = fetch(np.dstack([flow[2], missing[2].astype(np.float32)]), -now)
    speeding, slowing = before[..., :2] - now, now - after[..., :2]
    step = 0.5 * (speeding + slowing)  # [H, W, 2]
    size = np.linalg.norm(step, axis=2)
    even = np.linalg.norm(speeding - slowing, axis=2) < EVEN_TOLERANCE * size + EVEN_SLACK
    known = seen_before & seen_after & even & ~missing[1] & (before[..., 2] == 0) & (after[..., 2] == 0)
    moving = known & (np.linalg.norm(now, axis=2) > SAME_PIXELS)
    past = fetch(picture[0], now, cubic=True)[0] - picture[1]
    future = fetch(picture[2], -now, cubic=True)[0] - picture[1]
    middle = picture[1] + 0.25 * (past + future)  # the gradient at the middle of what is compared
    gradient = [cv2.Scharr(middle, cv2.CV_32F, 1, 0) / 32.0, cv2.Scharr(middle, cv2.CV_32F, 0, 1) / 32.0]
    change = future - past
    usable = known & (size > EVEN_SLACK) & (size < LARGEST_STEP) & (np.abs(change) < LARGEST_CHANGE)
    inner = cv2.erode(usable.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    planes = (
        -(gradient[0] * step[..., 0] + gradient[1] * step[..., 1]),
        gradient[0] * now[..., 0],
        gradient[1] * now[..., 1],
        gradient[0],
        gradient[1],
        picture[1],
    )
    columns = np.stack([plane[inner] for plane in planes], axis=1).astype(np.float64)
    return columns, change[inner].astype(np.float64), size[moving].astype(np.float64)


def _band(luma: Float32Array, sigmas: tuple[float, float]) -> Float32Array:
    fine, coarse = (cv2.GaussianBlur(luma, (0, 0), sigma) for sigma in sigmas)
    band: Float32Array = fine - coarse
    return band
