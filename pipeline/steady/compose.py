"""One frame put together from several views of its surfaces, with no ghosts and no seams.

Colour that is wide comes from all views by their weights; detail from the best view, softly where views agree
and hard where they do not: the mean of two drawings of one eye is no eye. The two bands are joined so that a
border between views shows in neither (Burt and Adelson 1983).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.image import Float32Array, UInt8Array
from pipeline.steady.warp import BoolArray, largest

BAND_SIGMA = 3.0 / 128.0  # of the frame's height: between colour and detail
AGREED = 18.0  # levels of 255: details that differ by less are mixed by time alone
SOFT_POWER, HARD_POWER = 1.0, 3.0  # of the weights, where details agree and where they do not
NOTHING = 2e-3  # a summed weight below which no view knows a pixel
GUIDE_SIGMA = 6.0 / 128.0  # of the frame's height, for filling what no view knows
ENOUGH = 0.05  # of the window known: less, and the window is widened
GUIDE_FLOOR = 30.0  # squared levels: engine contrast below it says nothing about the style
OUTLINE_SIGMA = 0.6  # pixels: vectors cut a surface at whole pixels, a render's outline is smooth


@dataclass(frozen=True)
class View:
    """One view of the surfaces, moved here: `pixels` float32 [H, W, 3], `trust` float32 [H, W] in [0, 1].

    `share` is its part by time, in [0, 1]: a key's falls to 0 at the next key.
    """

    pixels: Float32Array
    trust: Float32Array
    share: float


@dataclass(frozen=True)
class Composed:
    """The frame, float32 [H, W, 3] in levels of 255, and where no view knew anything, bool [H, W]."""

    pixels: Float32Array
    unknown: BoolArray


def compose(views: Sequence[View], *, engine: UInt8Array, rim: Float32Array) -> Composed:
    """The frame from its views. `engine` uint8 [H, W, 3]; `rim` of this frame, as `correspond.rim` gives it.

    What no view knows is filled from around it, following the engine's picture, and marked.
    """
    weights = [view.trust * np.float32(view.share) for view in views]
    total = np.asarray(np.sum(weights, axis=0), np.float32)
    unknown: BoolArray = total < NOTHING
    most = np.maximum(np.max(weights, axis=0), NOTHING)
    powers = _power([view.pixels for view in views], weights, total)
    sums = [_blurred(view.pixels * w[..., None], w) for view, w in zip(views, weights, strict=True)]
    wide: Float32Array = np.sum([c for c, _ in sums], axis=0) / np.sum([w for _, w in sums], axis=0)
    details = [
        view.pixels - colour / weight for view, (colour, weight) in zip(views, sums, strict=True)
    ]  # each view's own, so that a step between views is in the wide band alone
    pixels: Float32Array = wide + _mean(details, [(w / most) ** powers for w in weights])
    if unknown.any():
        filled = fill(pixels, known=~unknown, engine=engine)
        soft = cv2.GaussianBlur(unknown.astype(np.float32), (0, 0), 0.8)
        share = np.maximum(soft, unknown)[..., None]
        pixels = pixels + share * (filled - pixels)
    return Composed(_smooth_outlines(pixels, rim), unknown)


def fill(pixels: Float32Array, *, known: BoolArray, engine: UInt8Array) -> Float32Array:
    """Pixels [H, W, 3] for the whole frame from those that are known, bool [H, W].

    Around each place the styled colours are fitted as a line in the engine's luma (He et al. 2010, with the
    unknown left out), wider where nothing is known near.
    """
    luma = cv2.cvtColor(engine, cv2.COLOR_RGB2GRAY).astype(np.float32)
    mask = known.astype(np.float32)
    result = np.zeros_like(pixels)
    weight_done = np.zeros(mask.shape, np.float32)
    sigma = GUIDE_SIGMA * len(mask)
    for _ in range(6):
        weight = cv2.GaussianBlur(mask, (0, 0), sigma)
        line = _line(pixels, luma, mask, weight, sigma)
        share = np.clip(weight / ENOUGH, 0.0, 1.0) * (1.0 - weight_done)
        result += line * share[..., None]
        weight_done += share
        if float(weight_done.min()) > 0.999:
            break
        sigma *= 2.0
    filled: Float32Array = np.asarray(result / np.maximum(weight_done, 1e-3)[..., None], np.float32)
    return filled


def _line(
    pixels: Float32Array, luma: Float32Array, mask: Float32Array, weight: Float32Array, sigma: float
) -> Float32Array:
    def mean(values: Float32Array) -> Float32Array:
        flat = values if values.ndim == 3 else values[..., None]
        blurred = cv2.GaussianBlur(flat * mask[..., None], (0, 0), sigma).reshape(flat.shape)
        averaged: Float32Array = blurred / np.maximum(weight, 1e-4)[..., None]
        return averaged

    middle, colour = mean(luma), mean(pixels)
    variance = mean(np.square(luma)) - middle**2
    slope = (mean(luma[..., None] * pixels) - middle * colour) / (np.maximum(variance, 0.0) + GUIDE_FLOOR)
    line: Float32Array = colour + slope * (luma[..., None] - middle)
    return line


def _blurred(colour: Float32Array, weight: Float32Array) -> tuple[Float32Array, Float32Array]:
    """Weighted colours [H, W, 3] and their weights [H, W, 1] spread over the wide band."""
    sigma = BAND_SIGMA * len(weight)
    wide, over = (cv2.GaussianBlur(each, (0, 0), sigma) for each in (colour, weight))
    spread: Float32Array = over[..., None] + np.float32(1e-6)
    return wide, spread


def _mean(pixels: Sequence[Float32Array], weights: Sequence[Float32Array]) -> Float32Array:
    total = np.maximum(np.sum(weights, axis=0), 1e-9)
    mean: Float32Array = sum(p * (w / total)[..., None] for p, w in zip(pixels, weights, strict=True))
    return mean


def _power(
    pixels: Sequence[Float32Array], weights: Sequence[Float32Array], total: Float32Array
) -> Float32Array | float:
    """The power that detail's weights are raised to, [H, W]: from soft where the views agree to hard."""
    if len(pixels) < 2:
        return SOFT_POWER
    mean = _mean(pixels, weights)
    spread = sum(w * largest(p - mean) for p, w in zip(pixels, weights, strict=True))
    apart = spread / np.maximum(total, NOTHING)
    hardness = 1.0 - np.exp(-np.square(np.square(cv2.blur(apart, (3, 3)) / AGREED)))
    powers: Float32Array = SOFT_POWER + (HARD_POWER - SOFT_POWER) * hardness
    return powers


def _smooth_outlines(pixels: Float32Array, rim: Float32Array) -> Float32Array:
    at_edge = np.clip(2.0 * rim - 1.0, 0.0, 1.0)[..., None]
    softer = cv2.GaussianBlur(pixels, (0, 0), OUTLINE_SIGMA, borderType=cv2.BORDER_REPLICATE)
    smoothed: Float32Array = pixels + at_edge * (softer - pixels)
    return smoothed
