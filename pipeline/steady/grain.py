"""Film grain: measured on keys, taken off them, and made anew for every frame.

Grain that is carried along with the surface sticks to it like dirt. So what is carried is clean, and each
frame gets grain of its own, as strong and as fine as the keys had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.image import Float32Array

LEAST = 1.5  # levels of 255: less is rounding and what a VAE leaves
FLAT_SHARE = 0.3  # of the pixels: where a picture is flattest, what is left is grain
FINE_SIGMA = 1.5  # pixels: wider than this is shading
MOST_SIZE = 1.5  # pixels: sigma of the coarsest grain that is made
_SIZES = np.linspace(0.0, MOST_SIZE, 16)


@dataclass(frozen=True)
class Grain:
    """`strength`: standard deviation in levels of 255, 0 = none; `size`: sigma of its blur in pixels."""

    strength: float
    size: float = 0.0


def measure(keys: Sequence[Float32Array]) -> Grain:
    """The grain of styled pictures [H, W, 3], from the flattest parts of their luma."""
    strengths, neighbours = [], []
    for key in keys:
        luma = key @ np.array([0.299, 0.587, 0.114], np.float32)
        fine = luma - cv2.GaussianBlur(luma, (0, 0), FINE_SIGMA)
        energy = cv2.GaussianBlur(np.square(fine), (0, 0), 4.0 * FINE_SIGMA)
        flat = energy <= np.quantile(energy, FLAT_SHARE)
        strengths.append(float(np.sqrt(np.mean(np.square(fine[flat])))))
        product = (fine[:, :-1] * fine[:, 1:])[flat[:, :-1]]
        neighbours.append(float(product.mean()) / max(float(np.square(fine[flat]).mean()), 1e-6))
    made = [_fine_part(size) for size in _SIZES]
    best = int(np.argmin([abs(correlation - float(np.median(neighbours))) for _, correlation in made]))
    strength = float(np.median(strengths)) / made[best][0]
    return Grain(strength, float(_SIZES[best])) if strength >= LEAST else Grain(0.0)


def without(picture: Float32Array, grain: Grain) -> Float32Array:
    """The picture [H, W, 3] with fine differences of about the grain's size taken out (Wiener's gain)."""
    if grain.strength == 0.0:
        return picture
    sigma = FINE_SIGMA + grain.size
    wide = cv2.GaussianBlur(picture, (0, 0), sigma)
    fine = picture - wide
    energy = cv2.GaussianBlur(np.square(fine).mean(axis=2), (0, 0), sigma)
    gain = np.clip(1.0 - 1.5 * grain.strength**2 / np.maximum(energy, 1e-6), 0.0, 1.0)
    clean: Float32Array = wide + fine * gain[..., None]
    return clean


def with_grain(picture: Float32Array, grain: Grain, *, seed: int) -> Float32Array:
    """The picture [H, W, 3] with grain of its own, the same for the same seed."""
    if grain.strength == 0.0:
        return picture
    noise = _noise(picture.shape[:2], grain.size, seed)
    grained: Float32Array = picture + grain.strength * noise[..., None]
    return grained


def _noise(shape: tuple[int, ...], size: float, seed: int) -> Float32Array:
    noise = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    if size > 0.0:
        noise = cv2.GaussianBlur(noise, (0, 0), size)
    unit: Float32Array = noise / noise.std()
    return unit


def _fine_part(size: float) -> tuple[float, float]:
    """What `measure` sees of unit grain of a size: its strength, and the correlation of neighbours."""
    noise = _noise((128, 128), size, 0)
    fine = noise - cv2.GaussianBlur(noise, (0, 0), FINE_SIGMA)
    energy = float(np.square(fine).mean())
    return float(np.sqrt(energy)), float((fine[:, :-1] * fine[:, 1:]).mean()) / energy
