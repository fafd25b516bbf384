"""Fetch pixels along a flow: what the shot room needs of warping, for its probes and its own inversion."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.image import Float32Array


def fetch(
    image: Float32Array, flow: Float32Array, *, cubic: bool = False
) -> tuple[Float32Array, NDArray[np.bool_]]:
    """`image` float32 [H, W] or [H, W, C] at p + flow(p), and where that lies on the frame, bool [H, W].

    `flow` float32 [H, W, 2] in pixels, finite; pixel centres at integers; the edge pixel repeats outside.
    """
    height, width = flow.shape[:2]
    x = flow[..., 0] + np.arange(width, dtype=np.float32)[None, :]
    y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    method = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
    fetched: Float32Array = cv2.remap(image, x, y, method, borderMode=cv2.BORDER_REPLICATE)
    return fetched, inside


ROUNDS = 8  # fixed-point steps; each shrinks the error by the flow's stretch, mostly far below 1/2
INVERTED_PIXELS = 0.05  # a point that does not lead back to within this was not seen there


def invert(there: Float32Array, here: Float32Array) -> Float32Array:
    """The flow from this frame to a neighbour, from the neighbour's flow to this frame.

    `there` float32 [H, W, 2]: the neighbour's vectors to this frame; `here`: this frame's own vectors the
    other way, whose negative starts the search on the right surface. Solves F(p) = -there(p + F(p)) by
    fixed-point iteration (Chen et al. 2008); nan where that does not lead back: hidden, or out of frame.
    """
    missing = np.logical_not(np.isfinite(there).all(axis=2))
    source = np.dstack([np.where(missing[..., None], np.float32(0.0), there), missing.astype(np.float32)])
    found = -np.where(np.isfinite(here).all(axis=2, keepdims=True), here, np.float32(0.0))
    for _ in range(ROUNDS):
        found = -fetch(source, found)[0][..., :2]
    back, inside = fetch(source, found)
    leads_back = np.linalg.norm(back[..., :2] + found, axis=2) < INVERTED_PIXELS
    found[~(leads_back & inside & (back[..., 2] == 0.0))] = np.nan
    return found
