"""A loss that rises for good without ever becoming infinite: said while there is time to stop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

IMAGES = 400  # that a mean is taken over: a single image's loss sways by its own size and more
TIMES = 2.0  # the loss of a training that learns never doubles; one that ran away trebled (docs/log.md)


def divergence(losses: Sequence[float], *, images: int) -> str | None:
    """What to tell after the last of these losses, one a step of `images`; None: nothing.

    Looked at once every stretch of `IMAGES`: its mean against the median of the stretches before (the least
    of them is low by chance, the more so the longer the run).
    """
    stretch, count = -(-IMAGES // images), len(losses)
    if count < 2 * stretch or count % stretch:
        return None
    means = np.asarray(losses).reshape(-1, stretch).mean(axis=1)
    usual = float(np.median(means[:-1]))
    if means[-1] <= TIMES * usual:
        return None
    return (
        f"the loss of the last {stretch} steps is {means[-1]:.3g}, {means[-1] / usual:.1f} times what it was "
        f"before ({usual:.3g}): it seems to diverge; a lower train.lr may help"
    )
