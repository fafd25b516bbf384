"""What the audit measures in a picture: sharpness, light, background, likeness to another picture.

All of it is hand-made and needs no model. Pictures are uint8 RGB [H, W, 3].
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.image import UInt8Array, resize

FloatArray = NDArray[np.float64]

_SIDE = 32  # pixels of the thumbnail by which pictures are compared
_TINTS = 8.0  # chroma in Lab above which a light counts as coloured
LIGHT_ENDS = (25.0, 60.0)  # mean L* where "mid" and "bright" begin
BLURRED_BELOW = 0.4  # stage stills 0.64 to 0.82, one after a Gaussian of 2.5 pixels 0.16
SAME_ABOVE = 0.95  # stage stills of one character at most 0.70, neighbouring video frames above 0.98
TOO_DARK, TOO_BRIGHT = 8.0, 94.0  # mean L* beyond which a picture shows next to nothing


@dataclass(frozen=True)
class Measures:
    """One picture in numbers."""

    width: int
    height: int
    sharpness: float
    """Share of the gradients that a further blur takes away: below 0.4 blurred, above 0.6 sharp."""
    lightness: float
    """Mean L*, 0 black to 100 white."""
    tint: tuple[float, float]
    """Mean a* and b*."""
    light: str
    """Level and tint: "dark warm", "mid neutral" ..."""
    border: FloatArray
    """Mean Lab of the left, right and upper border [9]: the background of most pictures."""
    thumbnail: FloatArray
    """Lightness on a small grid, zero mean and unit norm [32 * 32]."""


def measure(picture: UInt8Array) -> Measures:
    """Measure one picture."""
    height, width = picture.shape[:2]
    lab = cv2.cvtColor(picture.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)  # [H, W, 3]
    mean = lab.reshape(-1, 3).mean(axis=0)
    small = np.asarray(resize(lab[..., 0], height=_SIDE, width=_SIDE), np.float64)
    flat = (small - small.mean()).ravel()
    return Measures(
        width=width,
        height=height,
        sharpness=_sharpness(lab[..., 0]),
        lightness=float(mean[0]),
        tint=(float(mean[1]), float(mean[2])),
        light=_light(mean),
        border=_border(lab),
        thumbnail=flat / max(float(np.linalg.norm(flat)), 1e-9),
    )


def same_picture(a: Measures, b: Measures) -> float:
    """Correlation of two pictures' lightness, -1 to 1; near 1 for the same. Exposure does not matter."""
    return float(a.thumbnail @ b.thumbnail)


def _sharpness(lightness: NDArray[np.float32]) -> float:
    """What a blur takes from the gradients, as a share (the blur metric of Crete et al. 2007), at 128 pixels.

    The picture is first brought to one size, so that the figure does not depend on its resolution.
    """
    height, width = lightness.shape
    scale = 128.0 / min(height, width)
    if scale < 1.0:
        lightness = resize(lightness, height=round(height * scale), width=round(width * scale))
    blurred = cv2.GaussianBlur(lightness, (0, 0), 1.5)
    lost, whole = 0.0, 0.0
    for axis in (0, 1):
        before, after = (np.abs(np.diff(values, axis=axis)) for values in (lightness, blurred))
        lost += float(np.maximum(before - after, 0.0).sum())
        whole += float(before.sum())
    return lost / max(whole, 1e-9)


def _light(mean: NDArray[np.float32]) -> str:
    level = ("dark", "mid", "bright")[int(np.searchsorted(LIGHT_ENDS, float(mean[0]), side="right"))]
    a, b = float(mean[1]), float(mean[2])
    if np.hypot(a, b) < _TINTS:
        return f"{level} neutral"
    angle = np.degrees(np.arctan2(b, a)) % 360.0  # Lab hue: 0 red, 90 yellow, 180 green, 270 blue
    tint = (
        "red" if angle < 40 or angle >= 320 else "warm" if angle < 110 else "green" if angle < 200 else "cool"
    )
    return f"{level} {tint}"


def _border(lab: NDArray[np.float32]) -> FloatArray:
    height, width = lab.shape[:2]
    margin_x, margin_y = max(1, width // 8), max(1, height // 8)
    upper = lab[: max(1, height // 2)]
    strips = upper[:, :margin_x], upper[:, -margin_x:], lab[:margin_y]
    return np.concatenate([strip.reshape(-1, 3).mean(axis=0) for strip in strips]).astype(np.float64)
