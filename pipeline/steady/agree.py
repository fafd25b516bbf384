"""Keys that show the same surfaces are brought to agree in colour, and the frames between to hold still."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np

from pipeline.image import Float32Array
from pipeline.steady.compose import View
from pipeline.steady.metrics import Step
from pipeline.steady.visibility import soften
from pipeline.steady.warp import warp

AGREE_SIGMA = 1.5 / 128.0  # of the height: wider than this the mean of the keys is taken
STRANGE = 40.0  # levels of 255: a colour that differs by this much counts 1/e


def agree(own: Float32Array, others: Sequence[View]) -> Float32Array:
    """A key's picture, float32 [H, W, 3], with the wide colours of all views of its surfaces.

    `others`: other keys' pictures moved to this one. Independent errors of the keys average out, and what
    crossfades from one key to the next does not change colour on the way.
    """
    change = np.zeros_like(own)
    weight = np.ones(own.shape[:2], np.float32)
    for view in others:
        apart = view.pixels - own
        distance = np.abs(cv2.GaussianBlur(apart, (0, 0), AGREE_SIGMA * len(own))).max(axis=2)
        share = view.trust * np.float32(view.share) * np.exp(-np.square(distance / STRANGE))
        change += share[..., None] * apart
        weight += share
    wide = cv2.GaussianBlur(change / weight[..., None], (0, 0), AGREE_SIGMA * len(own))
    agreed: Float32Array = own + wide
    return agreed


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
    earlier, later = (warp(p, s.flow, sampling="lanczos") for p, s in ((before, back), (after, onward)))
    middle = np.maximum(np.minimum(earlier, later), np.minimum(np.maximum(earlier, later), pixels))
    median: Float32Array = pixels + seen * (middle - pixels)
    return median
