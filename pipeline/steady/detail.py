"""What averaging takes from a picture's fine detail, given back where the render has detail itself.

Outlines and what the render shows are drawn alike by every key. What a style draws on a bare wall differs
from key to key: the mean is nearer to the truth than any of them, and to sharpen it only costs.
"""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.image import Float32Array, UInt8Array

FINE_SIGMA = 1.0  # pixels: finer than this is what the Laplacian weighs
MOST_GAIN = 2.5
PLAIN = 1.0  # levels of 255: where the render's own fine detail is this slight a place gets half
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # Rec. 601
LEAST = 0.01  # what the plainest place gets


def fine_energy(picture: Float32Array) -> float:
    """Mean square of the Laplacian of the luma of [H, W, 3], without the frame's rim."""
    return float(np.square(_laplacian(picture)).mean())


def brightness(picture: Float32Array) -> float:
    """Mean square of the luma of [H, W, 3], at least 1: what light does to it, it does to fine detail too."""
    return max(float(np.square(picture @ LUMA).mean()), 1.0)


def drawn(engine: UInt8Array) -> Float32Array:
    """Where the render has fine detail itself, float32 [H, W] in (0, 1], 1 where it has most.

    `engine`: uint8 RGB [H, W, 3]. A render that has as much, or as little, everywhere is 1 everywhere.
    """
    luma = cv2.cvtColor(engine, cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine = np.abs(luma - cv2.GaussianBlur(luma, (0, 0), FINE_SIGMA))
    detail = np.square(cv2.GaussianBlur(fine, (0, 0), FINE_SIGMA))
    share = (detail + LEAST * PLAIN**2) / (detail + PLAIN**2)
    most: Float32Array = share / share.max()
    return most


def sharpened(picture: Float32Array, energy: float, *, where: Float32Array) -> Float32Array:
    """The picture [H, W, 3] with fine detail of this energy, taken in by `where`, [H, W] in [0, 1].

    Detail is raised by `MOST_GAIN` at most, never lowered.
    """
    fine = (picture - cv2.GaussianBlur(picture, (0, 0), FINE_SIGMA)) * where[..., None]
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
    laplacian: Float32Array = cv2.Laplacian(picture @ LUMA, cv2.CV_32F, ksize=1)[1:-1, 1:-1]
    return laplacian
