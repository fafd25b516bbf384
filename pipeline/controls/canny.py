"""Pictures -> Canny's edges (Canny 1986), as canny ControlNets were trained on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# controlnet-aux's CannyDetector, and the thresholds that people's workflows know.
LOW_THRESHOLD = 100
HIGH_THRESHOLD = 200


def canny_map(
    frames: npt.NDArray[np.uint8],  # [T, H, W, 3]
    *,
    low: float = LOW_THRESHOLD,
    high: float = HIGH_THRESHOLD,
) -> npt.NDArray[np.uint8]:
    """White edges of one pixel on black, by OpenCV's Canny on all three channels.

    `frames` is uint8 RGB [T, H, W, 3] at the size that is rendered: edges that are found at another size and
    resampled are grey. `low` and `high` are Canny's hysteresis on the gradient (Sobel 3x3, L1 norm): an edge
    starts above `high` and goes on above `low`. Returns uint8 [T, H, W, 3], three equal channels of 0 or 255.
    Raises ValueError for a wrong shape or for low > high.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(f"canny_map: frames must be [T, H, W, 3], got shape {frames.shape}")
    if not 0 <= low <= high:
        raise ValueError(f"canny_map: need 0 <= low <= high, got low={low}, high={high}")
    import cv2

    edges = np.stack([cv2.Canny(np.ascontiguousarray(frame), low, high) for frame in frames])  # [T, H, W]
    return np.repeat(edges[..., None], 3, axis=-1).astype(np.uint8, copy=False)
