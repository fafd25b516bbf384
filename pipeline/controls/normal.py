"""Camera-space normals -> the colours a normal ControlNet reads.

ControlNet 1.1's normalbae net, and the SDXL normal nets made after it, were trained on what controlnet-aux's
NormalBaeDetector draws: a unit vector (n + 1) / 2 * 255, in the axes of its ScanNet ground truth. Those are
x LEFT, y up, z toward the camera:

* Bae's own maker of ground truth (baegwangbin/DSINE, data/d2n/plane_svd.py) takes points with x right,
  y down, z forward and turns every normal so that n . point >= 0: away from the camera, hence the opposite of
  the surface's normal (right, down, forward), which reads (left, up, toward the camera).
* dream-textures, which renders normals in Blender for this very net (engine/annotations/normal.py, merged as
  pull request 632), writes (1 - r, g, b) of the camera-space normal, and (0.5, 0.5, 1) where nothing is.

So red is mirrored against the usual normal pass; blue and green are not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.errors import ShotError

_AXES = np.array([-1.0, 1.0, 1.0], np.float32)  # ours (right, up, toward) -> theirs (left, up, toward)
# The detector always answers with some unit vector; where nothing was hit, one that faces the camera.
_NOTHING = np.array([0.0, 0.0, 1.0], np.float32)
# Shorter than this is background that anti-aliasing bled into, not a direction.
_SHORTEST = 0.1
_LONGEST = 1.5  # a direction stored in half floats is at most 1.001 long


def normal_map(
    normals: npt.NDArray[np.float32],  # [T, H, W, 3]
    *,
    names: Sequence[str] = (),
) -> npt.NDArray[np.uint8]:
    """Draw normals as NormalBae does.

    `normals` is float [T, H, W, 3] in camera space: x right, y up, z toward the camera, of any length (what
    anti-aliasing shortened is made unit again); nan or 0 where nothing was hit. Returns uint8 RGB
    [T, H, W, 3]: left-facing is red, up green, toward the camera blue, and background (127, 127, 255).
    `names` are what the frames are called in an error, such as their files. Raises ValueError for a wrong
    shape, ShotError where a vector is infinite or longer than a direction can be.
    """
    if normals.ndim != 4 or normals.shape[-1] != 3:
        raise ValueError(f"normal_map: normals must be [T, H, W, 3], got shape {normals.shape}")
    length = np.linalg.norm(normals, axis=-1, keepdims=True)  # nan stays nan
    if (length > _LONGEST).any():
        t, y, x = (int(i) for i in np.argwhere(length[..., 0] > _LONGEST)[0])
        name = names[t] if names else f"normal pass: frame {t} of the window"
        raise ShotError(
            f"{name}: holds a vector of length {float(length[t, y, x, 0]):g} at (x={x}, y={y}); expected "
            "directions of length 1, nan or 0 where nothing was hit: export camera-space normals"
        )
    hit = length > _SHORTEST  # nan compares false
    unit = np.where(hit, normals * _AXES / np.where(hit, length, 1.0), _NOTHING)
    # cut off, not rounded: as the detector's astype(np.uint8) does
    return np.clip((unit + 1.0) * 0.5 * 255.0, 0.0, 255.0).astype(np.uint8)
