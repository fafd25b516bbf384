"""What averaging takes from a picture's fine detail, given back."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.image import Float32Array

FINE_SIGMA = 1.0  # pixels: finer than this is what the Laplacian weighs
MOST_GAIN = 2.5


def fine_energy(picture: Float32Array) -> float:
    """Mean square of the Laplacian of the luma of [H, W, 3], without the frame's rim."""
    return float(np.square(_laplacian(picture)).mean())


def sharpened(picture: Float32Array, energy: float) -> Float32Array:
    """The picture [H, W, 3] with fine detail of this energy: raised by `MOST_GAIN` at most, never lowered."""
    fine = picture - cv2.GaussianBlur(picture, (0, 0), FINE_SIGMA)
    whole, part = _laplacian(picture), _laplacian(fine)
    # |whole + g part|^2 = energy, solved for g
    a, b = float(np.square(part).mean()), float((whole * part).mean())
    missing = energy - float(np.square(whole).mean())
    if missing <= 0.0 or a < 1e-6:
        return picture
    gain = min((np.sqrt(b * b + a * missing) - b) / a, MOST_GAIN - 1.0)
    result: Float32Array = picture + np.float32(gain) * fine
    return result


def _laplacian(picture: Float32Array) -> Float32Array:
    luma = picture @ np.array([0.299, 0.587, 0.114], np.float32)
    laplacian: Float32Array = cv2.Laplacian(luma, cv2.CV_32F, ksize=1)[1:-1, 1:-1]
    return laplacian
