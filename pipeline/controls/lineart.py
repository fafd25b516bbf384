"""White lines on black, as lineart ControlNets were trained on: from the renderer's passes, without weights.

The learned detector (Chan et al. 2022, "Learning to generate line drawings that convey geometry and
semantics") draws what a pen would: outlines, creases, and the strong edges within. Passes know the first two
exactly; the rest is the picture's. Thresholds are fixed, so that lines do not flicker.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.controls.softedge import (
    Float32,
    Masks,
    check_passes,
    drawn,
    pass_edges,
    picture_edges,
)

_SIGMA = 0.9  # pixels of a 512 px picture: the detector's strokes are about 2 px wide there
_SIDE = 512
_SMALLEST_SIGMA = 0.6
_PICTURE_STRENGTH = 0.6  # what only the picture shows is drawn fainter, as the detector does


def lineart_map(
    frames: npt.NDArray[np.uint8],  # [T, H, W, 3]
    *,
    depth: Float32 | None = None,  # [T, H, W]
    normals: Float32 | None = None,  # [T, H, W, 3]
    ids: npt.NDArray[np.uint32] | None = None,  # [T, H, W]
) -> npt.NDArray[np.uint8]:
    """Draw every frame's lines.

    `frames` uint8 RGB [T, H, W, 3]; the passes, where there are any, at the same size: `depth` in metres (inf
    where nothing was hit), `normals` in camera space (nan or 0 where nothing was hit), `ids` 256 * figure +
    part. Returns uint8 [T, H, W, 3], three equal channels. Raises ValueError for shapes that disagree.
    """
    check_passes("lineart_map", frames, depth=depth, normals=normals, ids=ids)
    out = np.empty(frames.shape, np.uint8)
    for t, frame in enumerate(frames):
        sigma = max(_SMALLEST_SIGMA, _SIGMA * min(frame.shape[:2]) / _SIDE)
        known = pass_edges(t, frame.shape[:2], depth=depth, normals=normals, ids=ids)
        inner = _PICTURE_STRENGTH * thinned(picture_edges(frame, max(1.0, sigma)))
        out[t] = np.rint(255.0 * drawn(np.maximum(known, inner), sigma))[..., None]
    return out


def thinned(edges: Masks) -> Masks:
    """Edges of which only the crest is left, float32 [H, W]: highest along x or along y."""
    padded = np.pad(edges, 1)
    centre = padded[1:-1, 1:-1]
    across = (centre >= padded[1:-1, :-2]) & (centre > padded[1:-1, 2:])
    down = (centre >= padded[:-2, 1:-1]) & (centre > padded[2:, 1:-1])
    crest: Masks = np.where(across | down, edges, np.float32(0.0))
    return crest


def lines_map(lines: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A pass of lines uint8 [T, H, W], white on black, as the picture that the net reads: [T, H, W, 3]."""
    if lines.ndim != 3:
        raise ValueError(f"lines_map: lines must be [T, H, W], got shape {lines.shape}")
    return np.repeat(lines[..., None], 3, axis=-1)
