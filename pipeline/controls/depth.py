"""Depth in metres -> the grey picture a depth ControlNet reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.errors import ShotError

# A fixed range, not each frame's minimum and maximum: with those, a hand that comes near darkens the whole
# room, and the picture flickers. A close-up's nose is about 0.7 m away, the far wall of a hall about 14 m;
# what is nearer or farther saturates. Training and rendering must share these numbers.
NEAR_METRES = 0.7
FAR_METRES = 14.0


def depth_map(
    depth: npt.NDArray[np.float32],  # [T, H, W]
    *,
    near: float | None = None,
    far: float | None = None,
    names: Sequence[str] = (),
) -> npt.NDArray[np.uint8]:
    """Inverse depth between two fixed planes: near is white, far and background are black.

    `depth` is float [T, H, W], metres along the view axis, inf where nothing was hit; every value must be >
    0. `near` and `far` in metres default to NEAR_METRES and FAR_METRES. Returns uint8 [T, H, W, 3], three
    equal channels: 255 * clip((1/z - 1/far) / (1/near - 1/far), 0, 1), rounded. Disparity is linear in what
    MiDaS-style depth ControlNets were trained on (Ranftl et al. 2020). `names` are what
    the frames are called in an error, such as their files. Raises ShotError when a depth is nan, zero or
    negative, ValueError for a wrong shape or range.
    """
    near = NEAR_METRES if near is None else near
    far = FAR_METRES if far is None else far
    if depth.ndim != 3:
        raise ValueError(f"depth_map: depth must be [T, H, W], got shape {depth.shape}")
    if not 0 < near < far:
        raise ValueError(f"depth_map: need 0 < near < far, got near={near}, far={far}")
    _check_positive(depth, names)
    disparity = (1.0 / depth.astype(np.float32) - 1.0 / far) / (1.0 / near - 1.0 / far)
    grey = np.rint(255.0 * np.clip(disparity, 0.0, 1.0)).astype(np.uint8)  # [T, H, W]
    return np.repeat(grey[..., None], 3, axis=-1)


def _check_positive(depth: npt.NDArray[np.float32], names: Sequence[str]) -> None:
    wrong = ~(depth > 0)  # nan compares false, so this catches it too
    if not wrong.any():
        return
    t, y, x = (int(i) for i in np.argwhere(wrong)[0])
    name = names[t] if names else f"depth pass: frame {t} of the window"
    raise ShotError(
        f"{name}: holds {depth[t, y, x]} at (x={x}, y={y}), "
        f"{int(wrong.sum())} such values in all; expected metres > 0, or inf where nothing was hit: "
        "export linear eye depth"
    )
