"""A loss that rises for good without ever becoming infinite: said while there is time to stop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

STRETCH = 50  # steps; the mean of so many hardly sways with the timesteps drawn
TIMES = (
    2.0  # the loss of a training that learns never doubles; one at ten times its rate tripled (docs/log.md)
)


def divergence(losses: Sequence[float]) -> str | None:
    """What to tell after the last of these losses, one a step; None where there is nothing to tell.

    Looked at once every `STRETCH` steps: the mean of the last stretch against the least of those before it.
    """
    count = len(losses)
    if count < 2 * STRETCH or count % STRETCH:
        return None
    means = np.asarray(losses).reshape(-1, STRETCH).mean(axis=1)
    least = int(means[:-1].argmin())
    if means[-1] <= TIMES * means[least]:
        return None
    return (
        f"the loss of the last {STRETCH} steps is {means[-1]:.3g}, {means[-1] / means[least]:.1f} times that "
        f"of steps {least * STRETCH + 1} to {(least + 1) * STRETCH}: it diverges; lower train.lr"
    )
