"""Aspect buckets: the sizes that images of different shapes are cut to. Pure; no pictures here."""

from __future__ import annotations

import math

LEAST_AREA = 0.25  # of the model's own square: a smaller picture teaches a scale that nobody renders at


def choose_bucket(height: int, width: int, *, base: int, step: int) -> tuple[int, int] | None:
    """The size (H, W) that a picture of this size is cut to; None where the picture is too small for any.

    Sides are multiples of `step`, the area is at most `base` x `base`, and the picture is never enlarged.
    Of these sizes the one that keeps most: its area times the share of the picture inside the centred crop.
    With `step` 0 there is one size, `base` x `base`.
    """
    if step == 0:
        return (base, base) if min(height, width) >= base else None
    best, most = None, 0.0
    for h in range(step, min(height, base * base // step) + 1, step):
        w_most = min(width, base * base // h) // step * step
        for w in range(step, w_most + 1, step):
            value = h * w * kept_share(height, width, bucket=(h, w))
            # Of equals the squarer: a loop over heights would favour the wide ones.
            squarer = best is not None and _skew(h, w) < _skew(*best)
            if value > most * (1 + 1e-9) or (squarer and value > most * (1 - 1e-9)):
                best, most = (h, w), value
    if best is None or best[0] * best[1] < LEAST_AREA * base * base:
        return None
    return best


def crop_box(height: int, width: int, *, bucket: tuple[int, int]) -> tuple[int, int, int, int]:
    """Top, left, height and width in pixels of the largest centred crop with the bucket's aspect."""
    h, w = bucket
    scale = min(height / h, width / w)
    tall, wide = min(height, round(h * scale)), min(width, round(w * scale))
    return (height - tall) // 2, (width - wide) // 2, tall, wide


def kept_share(height: int, width: int, *, bucket: tuple[int, int]) -> float:
    """Share of a picture's area, in (0, 1], that the crop for this bucket keeps."""
    h, w = bucket
    scale = min(height / h, width / w)
    return h * w * scale * scale / (height * width)


def _skew(height: int, width: int) -> float:
    return abs(math.log(height / width))
