"""Every reading of a stored vector, scored by how well it warps the shot's own pictures.

A reading is a unit, an axis order, two signs and a factor, taken as a vector to t-1; its negative leads to
t+1, so that one score serves both time directions (`arrow.py` tells those apart). For each pixel the better
of both neighbours counts: what is hidden in one is mostly seen in the other (Godard et al. 2019, "minimum
reprojection"), so no reading gains by what it declares occluded.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.image import Float32Array
from pipeline.shot.encoding import UNREAL_OFFSET, UNREAL_SCALE, VectorEncoding, decode

MARGIN = 1.25  # a rival's error over the winner's, where both differ, that counts as clear
MARGIN_STILL = 1.1  # the same against "nothing moves": light that stays while a surface turns speaks for it
# The error of "nothing moves" over that of a reading whose length is believed. On stage shots: 6.8 and more
# where the right length fits best, up to 5.1 where light that lags makes another one fit; wrong: 2.6.
EXPLAINED = 5.5
SIGMAS = 3.0  # and the sum of signed ranks of the difference, between frames and tiles, over its spread
TILES = 3  # a side
SAME_PIXELS = 0.05  # readings that agree to this on 98 % of the moving pixels are one
FEWEST_PIXELS = 48  # moving pixels in a frame that can tell anything
MOST_POINTS = 3000  # of them that are looked at
HIGHEST_QUANTILE = 0.995  # errors are capped at this one of "nothing moves", so that cuts decide nothing
LEAST_ERROR = 1e-8  # (1/10,000 of the brightness range) squared: errors below are rounding
FINE_SIGMA, COARSE_SIGMA = 0.8, 3.0  # pixels; edges between them carry position, wider shades carry light
FREE_FACTORS = tuple(2.0 ** (k / 4) for k in range(-12, 13))  # shutter fractions to several frames at once


@dataclass(frozen=True)
class Sample:
    """Frame t at the probe's size: luma float32 [3, H, W] of t-1, t, t+1, and N of its moving pixels.

    `points` float32 [N, 2] are their x, y; `stored` float32 [N, 2] their stored vectors; `size` is the shot's
    (width, height) and `reduction` the whole number that both were divided by.
    """

    luma: Float32Array
    points: Float32Array
    stored: Float32Array
    size: tuple[int, int]
    reduction: int


@dataclass(frozen=True)
class Scored:
    """A reading and its errors: per sample a float64 [N] of each point. The reading None: "nothing moves".

    `error` is the mean square of the brightness difference (fine detail, brightness in [0, 1]), weighted by
    the picture's squared gradient: flat surfaces look the same wherever they are fetched from.
    """

    reading: VectorEncoding | None
    errors: tuple[NDArray[np.float64], ...]
    error: float


def readings(channels: tuple[str, str], *, encoded: bool) -> list[VectorEncoding]:
    """All named readings as vectors to t-1; `encoded` adds those whose zero is Unreal's 32767/65535."""
    templates = [
        VectorEncoding(channels, "uv", absent="above one"),
        VectorEncoding(channels, "pixels"),
    ]
    if encoded:
        unreal = VectorEncoding(channels, "ndc", (UNREAL_SCALE, UNREAL_SCALE), UNREAL_OFFSET, "zero")
        templates.append(unreal)
    return [each for template in templates for each in _turned(template)]


def _turned(template: VectorEncoding) -> list[VectorEncoding]:
    """A template in both axis orders with all four signs."""
    first, second = template.channels
    return [
        replace(template, channels=order, scale=(x * template.scale[0], y * template.scale[1]))
        for order in ((first, second), (second, first))
        for x, y in itertools.product((-1.0, 1.0), (1.0, -1.0))
    ]


def make_sample(
    luma: Float32Array, stored: Float32Array, *, size: tuple[int, int], reduction: int, encoded: bool
) -> Sample:
    """A sample of luma [3, H, W] and stored vectors [H, W, 2], both at the probe's size."""
    ys, xs = np.nonzero(_moving(stored, size, encoded=encoded))
    if len(xs) > MOST_POINTS:
        picked = np.random.default_rng(0).choice(len(xs), MOST_POINTS, replace=False)
        ys, xs = ys[picked], xs[picked]
    points = np.stack([xs, ys], axis=1).astype(np.float32)
    return Sample(luma, points, np.ascontiguousarray(stored[ys, xs]), size, reduction)


def _moving(stored: Float32Array, size: tuple[int, int], *, encoded: bool) -> NDArray[np.bool_]:
    """Where some named reading has a vector longer than 0.05 px, bool [H, W]; the others tell nothing."""
    offset, gain = (UNREAL_OFFSET, 0.5 * UNREAL_SCALE) if encoded else (0.0, 1.0)
    length = np.abs(stored - np.float32(offset)).max(axis=2) * gain * max(size)
    absent = (stored == 0.0).all(axis=2) | ~np.isfinite(stored).all(axis=2)
    region: NDArray[np.bool_] = (length > SAME_PIXELS) & ~absent
    return region


def flow_of(sample: Sample, reading: VectorEncoding | None, channels: tuple[str, str]) -> Float32Array:
    """The sample's vectors [N, 2] under a reading, to t-1 at the probe's size, nan where absent."""
    if reading is None:
        return np.zeros_like(sample.stored)
    stored = sample.stored if reading.channels == channels else sample.stored[:, ::-1]
    flow: Float32Array = decode(stored[None], reading, size=sample.size)[0] / np.float32(sample.reduction)
    return flow


def score(
    samples: Sequence[Sample],
    candidates: Sequence[VectorEncoding],
    channels: tuple[str, str],
    *,
    cubic: bool = False,
) -> list[Scored]:
    """All candidates and "nothing moves", best first. Samples without enough motion must be left out.

    `cubic`: fetch by cubic interpolation. Linear blurs between pixels, which speaks for vectors that are
    too short; for readings that differ by much it is good enough.
    """
    weights = [np.square(_gradient(sample)).sum(axis=1) for sample in samples]
    caps = []
    for sample in samples:
        still = _errors(sample, flow_of(sample, None, channels), np.inf)
        caps.append(max(float(np.quantile(still, HIGHEST_QUANTILE)), LEAST_ERROR))
    scored = []
    for reading in (None, *candidates):
        errors = tuple(
            _errors(sample, flow_of(sample, reading, channels), cap, cubic=cubic)
            for sample, cap in zip(samples, caps, strict=True)
        )
        total = sum(float(w @ e) for w, e in zip(weights, errors, strict=True))
        scored.append(Scored(reading, errors, total / max(sum(float(w.sum()) for w in weights), 1e-12)))
    return sorted(scored, key=lambda each: each.error)


def compare(
    samples: Sequence[Sample], best: Scored, other: Scored, channels: tuple[str, str]
) -> tuple[float, float]:
    """How much worse `other` is where the two can be told apart: error ratio, and how surely, in sigmas.

    A point weighs by how much the picture changes over what the two flows differ by, squared. The sigmas are
    of Wilcoxon's signed ranks (1945) over frames and tiles: one fast gesture may hold four fifths of all
    difference, so that a mean over its standard error never reaches 3, however many tiles agree.
    """
    sums = []
    for sample, mine, theirs in zip(samples, best.errors, other.errors, strict=True):
        apart = flow_of(sample, other.reading, channels) - flow_of(sample, best.reading, channels)
        change = np.nan_to_num(_gradient(sample) * apart).sum(axis=1)
        weight = np.minimum(np.square(change, dtype=np.float64), max(float(theirs.max()), LEAST_ERROR))
        height, width = sample.luma.shape[1:]
        tile = (sample.points @ np.array([TILES / width, 0.0])).astype(int) * TILES
        tile += (sample.points @ np.array([0.0, TILES / height])).astype(int)
        columns = (weight * mine, weight * theirs, weight)
        sums.append(np.stack([np.bincount(tile, each, TILES**2) for each in columns]))
    own, others, weights = np.concatenate(sums, axis=1)  # one column a frame and tile
    floor = LEAST_ERROR * max(weights.sum(), 1e-12)
    return float((others.sum() + floor) / (own.sum() + floor)), signed_ranks((others - own)[weights > 0])


def signed_ranks(difference: NDArray[np.float64]) -> float:
    """The signed-rank statistic of differences over its standard deviation where their signs are chance."""
    count = len(difference)
    ranks = np.argsort(np.argsort(np.abs(difference))) + 1
    spread = (count * (count + 1) * (2 * count + 1) / 6) ** 0.5
    return float((np.sign(difference) * ranks).sum() / spread) if count else 0.0


def _gradient(sample: Sample) -> Float32Array:
    """The picture's gradient per pixel at the points, [N, 2]."""
    now = sample.luma[1]
    x, y = sample.points.astype(np.intp).T
    planes = [cv2.Scharr(now, cv2.CV_32F, 1, 0)[y, x], cv2.Scharr(now, cv2.CV_32F, 0, 1)[y, x]]
    gradient: Float32Array = (np.stack(planes, axis=1) / 32.0).astype(np.float32)
    return gradient


def _errors(sample: Sample, flow: Float32Array, cap: float, *, cubic: bool = False) -> NDArray[np.float64]:
    """Squared difference to the better neighbour at each point [N], at most `cap`, as off the frame."""
    height, width = sample.luma.shape[1:]
    x, y = sample.points[:, 0], sample.points[:, 1]
    now = sample.luma[1][y.astype(np.intp), x.astype(np.intp)]
    best = np.full(len(x), cap, np.float64)
    for luma, sign in ((sample.luma[0], np.float32(1.0)), (sample.luma[2], np.float32(-1.0))):
        u, v = x + sign * flow[:, 0], y + sign * flow[:, 1]
        inside = (u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1)  # False for nan
        place = [np.where(inside, axis, np.float32(0.0))[None] for axis in (u, v)]
        between = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
        fetched = cv2.remap(luma, place[0], place[1], between)[0]
        best = np.minimum(best, np.where(inside, (fetched - now) ** 2, cap))
    return best


def same(
    samples: Sequence[Sample],
    one: VectorEncoding | None,
    other: VectorEncoding | None,
    channels: tuple[str, str],
) -> bool:
    """Whether two readings give one flow to 0.05 px of the shot, on 98 % of the points of each sample."""
    for sample in samples:
        apart = flow_of(sample, one, channels) - flow_of(sample, other, channels)
        pixels = np.linalg.norm(apart, axis=1) * sample.reduction
        if np.quantile(np.nan_to_num(pixels, nan=1e9), 0.98) > SAME_PIXELS:
            return False
    return True


def fit_factor(
    samples: Sequence[Sample], channels: tuple[str, str], bases: Sequence[VectorEncoding]
) -> list[VectorEncoding]:
    """Each of `bases` times the factor that warps best, the best of them first.

    Vectors over a shutter interval, or over several frames, are a real multiple of the convention's (2.46 in
    one production's files). Found on a grid of quarter octaves, the best one then by golden section.
    """
    grids = [[_scaled(base, factor) for factor in FREE_FACTORS] for base in bases]
    found = [_best(score(samples[:3], grid, channels)) for grid in grids]
    top = _best(score(samples, found, channels))
    return [_refined(samples, top, channels), *(each for each in found if each != top)]


def _refined(samples: Sequence[Sample], reading: VectorEncoding, channels: tuple[str, str]) -> VectorEncoding:
    ratio = (5**0.5 - 1) / 2
    low, high = -0.25, 0.25  # octaves round the grid's best

    def error(octave: float) -> float:
        scored = score(samples, [_scaled(reading, 2.0**octave)], channels, cubic=True)
        return next(each.error for each in scored if each.reading is not None)

    for _ in range(12):  # 0.5 octave * 0.618^12 = 0.1 %
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if error(left) < error(right) else (left, high)
    return _scaled(reading, 2.0 ** ((low + high) / 2))


def _best(scored: Sequence[Scored]) -> VectorEncoding:
    return next(each.reading for each in scored if each.reading is not None)


def factor_of(reading: VectorEncoding) -> float:
    """A reading's factor to the convention that it is a multiple of."""
    return abs(reading.scale[0]) / (UNREAL_SCALE if reading.offset else 1.0)


def _scaled(reading: VectorEncoding, factor: float) -> VectorEncoding:
    return replace(reading, scale=(reading.scale[0] * factor, reading.scale[1] * factor))


def shrink(frame: NDArray[np.float32], reduction: int) -> Float32Array:
    """A luma plane area-averaged to the probe's size: its detail between FINE and COARSE sigma."""
    height, width = frame.shape[0] // reduction, frame.shape[1] // reduction
    cut = frame[: height * reduction, : width * reduction]
    small = cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA) if reduction > 1 else cut
    fine = cv2.GaussianBlur(np.ascontiguousarray(small), (0, 0), FINE_SIGMA)
    band: Float32Array = fine - cv2.GaussianBlur(small, (0, 0), COARSE_SIGMA)
    return band
