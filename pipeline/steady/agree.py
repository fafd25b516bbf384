"""Keys that show the same surfaces are brought to agree in colour, and the frames between to hold still."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np

from pipeline.image import Float32Array
from pipeline.steady.compose import View
from pipeline.steady.metrics import Step
from pipeline.steady.visibility import soften
from pipeline.steady.warp import largest, warp

AGREE_SIGMA = 1.5 / 128.0  # of the height: wider than this the mean of the keys is taken
STRANGE = 80.0  # levels of 255: a colour that differs by this much counts 1/e
LEAST_TRUST, FULL_TRUST = 0.4, 0.7  # of a view: between them its detail is taken in part
ALIKE = 16.0  # levels: a detail that differs by this much from the first counts 1/e in the mean
ALONE = 0.5  # of a view: what the first counts beside those that are alike


def agree(own: Float32Array, leading: Sequence[View], following: Sequence[View]) -> Float32Array:
    """A key's picture, float32 [H, W, 3], brought to agree with other keys' views of its surfaces.

    `leading`: views of keys that go before this one, the first of them before all; `following`: of those that
    come after it. Wide colours become the mean of all, so that independent errors average out. Detail is that
    of the first key that shows a place, and the mean of those that drew about the same: so each surface keeps
    one drawing from key to key, and what crossfades between two keys changes little on the way.
    """
    sigma = AGREE_SIGMA * len(own)
    change, weight = np.zeros_like(own), np.ones(own.shape[:2], np.float32)
    first, left = np.zeros_like(own), np.ones(own.shape[:2], np.float32)
    details: list[tuple[Float32Array, Float32Array]] = [(np.zeros_like(own), weight.copy())]
    for n, view in enumerate((*leading, *following)):
        apart = view.pixels - own
        wide = cv2.GaussianBlur(apart, (0, 0), sigma)
        distance = largest(wide)
        share = view.trust * np.float32(view.share) * np.exp(-np.square(distance / STRANGE))
        change += share[..., None] * apart
        weight += share
        fine = apart - wide
        details.append((fine, share))
        if n < len(leading):
            taken = left * _taken(share)
            first += taken[..., None] * fine
            left -= taken
    wide = cv2.GaussianBlur(change / weight[..., None], (0, 0), sigma)
    total, sum_ = ALONE * first, np.full(own.shape[:2], np.float32(ALONE))
    for fine, share in details:
        off = cv2.blur(largest(fine - first), (3, 3))
        alike = share * np.exp(-np.square(off / ALIKE))
        total += alike[..., None] * fine
        sum_ += alike
    agreed: Float32Array = own + wide + total / sum_[..., None]
    return agreed


def _taken(trust: Float32Array) -> Float32Array:
    """How far a view gives its detail, by its trust: 0 below `LEAST_TRUST`, 1 above `FULL_TRUST`."""
    taken: Float32Array = np.clip((trust - LEAST_TRUST) / (FULL_TRUST - LEAST_TRUST), 0.0, 1.0)
    return taken


def steadied(
    frames: Iterable[tuple[Float32Array, Step | None, Step | None]],
) -> Iterator[Float32Array]:
    """The median of each frame and its two neighbours along the motion, float32 [H, W, 3].

    Each frame comes with its ways to the one before and to the next (None: leave it as it is). What is not
    seen in both keeps its own colours. Holds three frames.
    """
    before: Float32Array | None = None
    held: tuple[Float32Array, Step | None, Step | None] | None = None
    for frame in frames:
        if held is not None:
            yield _median(before, held, frame[0])
            before = held[0]
        held = frame
    if held is not None:
        yield held[0]


def _median(
    before: Float32Array | None,
    now: tuple[Float32Array, Step | None, Step | None],
    after: Float32Array,
) -> Float32Array:
    pixels, back, onward = now
    if before is None or back is None or onward is None:
        return pixels
    seen = soften(back.seen & onward.seen)[..., None]
    earlier, later = (warp(p, s.flow, sampling="bicubic") for p, s in ((before, back), (after, onward)))
    middle = np.maximum(np.minimum(earlier, later), np.minimum(np.maximum(earlier, later), pixels))
    median: Float32Array = pixels + seen * (middle - pixels)
    return median
