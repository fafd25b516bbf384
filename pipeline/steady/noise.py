"""Starting noise that stays with the surface, so that a key draws the same texture where another key did."""

from __future__ import annotations

import numpy as np

from pipeline.image import Float32Array
from pipeline.steady.metrics import Step
from pipeline.steady.warp import source_points


def carry_noise(noise: Float32Array, fresh: Float32Array, link: Step) -> Float32Array:
    """The noise of another frame moved to this frame's surfaces: float32 [C, h, w], still white.

    `noise`: the other frame's, unit variance, independent from place to place; `fresh`: noise of this frame's
    own, as large; `link`: the way from this frame to the other, at the pixels' size. Each place takes the
    nearest value; a value that is taken already, or a surface that is not seen there, leaves the place its
    fresh noise, so that no two places share one.
    """
    height, width = noise.shape[1:]
    full_height, full_width = link.seen.shape
    rows = ((np.arange(height) + 0.5) * full_height / height).astype(np.intp)
    columns = ((np.arange(width) + 0.5) * full_width / width).astype(np.intp)
    x, y = source_points(link.flow)
    at = np.ix_(rows, columns)
    column = np.floor((x[at] + 0.5) * width / full_width).astype(np.intp)
    row = np.floor((y[at] + 0.5) * height / full_height).astype(np.intp)
    inside = link.seen[at] & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    source = np.where(inside, row * width + column, -1).ravel()
    taken, first = np.unique(source, return_index=True)
    first = first[taken >= 0]
    carried = fresh.reshape(len(fresh), -1).copy()
    carried[:, first] = noise.reshape(len(noise), -1)[:, source[first]]
    return carried.reshape(fresh.shape)
