"""Blending a freshly styled frame with the frame before, carried along exact motion.

Per frame the render calls `carry`, gives the result to the diffusion as known pixels, and ends with `finish`.
Only the finished frame before is needed, so an interrupted render goes on from the last whole frame on disk.

Sampling: a picture that is carried 48 times is sampled 48 times. Bilinear sampling then loses half the
detail, Lanczos none that can be measured (docs/measures.md), so `carry` uses Lanczos.

Two bands are blended apart. Flicker of colour and light is wide and slow, so the low band leans on the past
twice as long as the high band. Both are leaky: the fresh frame's colour anchors the result, which cannot
drift from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.image import Float32Array, UInt8Array
from pipeline.steady.light import LIGHT_FLOOR, LIGHT_SIGMA
from pipeline.steady.warp import largest, warp

COLOUR_MEMORY = 2.0  # how many times longer the low band remembers than the high band
BAND_SIGMA = 2.0 / 128.0  # of the frame's height: between the two bands; 2 px beat 4 px at 128 px
LIGHT_LIMITS = (
    0.7,
    1.4,
)  # a light that changes more in one frame is a cut or a flash: leave it to the fresh frame
DISAGREEMENT = 0.25  # of full scale: where colours differ by this much, the weight falls to 1/e

REC709 = np.array([0.2126, 0.7152, 0.0722], np.float32)


@dataclass(frozen=True)
class Carried:
    """What is known of a frame before it is styled.

    `pixels`: uint8 RGB [H, W, 3], the frame before, moved here; `mask`: float32 [H, W], 1 = that is right.
    """

    pixels: UInt8Array
    mask: Float32Array


def carry(
    previous_styled: UInt8Array,
    backward_flow: Float32Array,
    *,
    visible: Float32Array,
    engine_now: UInt8Array | None = None,
    engine_previous: UInt8Array | None = None,
) -> Carried:
    """The finished frame before, moved along the motion to where its surfaces are now, in the light of now.

    `previous_styled`: uint8 RGB [H, W, 3]; `backward_flow`: float32 [H, W, 2] in pixels, t -> t-1; `visible`:
    float32 [H, W] in [0, 1], how far it shows here. With both engine frames (uint8 RGB [H, W, 3]) the carried
    pixels are multiplied by the engine's low-frequency luminance ratio now / before along the motion, so that
    shadows go on moving over carried surfaces. Raises ValueError for sizes that differ.
    """
    if visible.shape != previous_styled.shape[:2]:
        raise ValueError(f"visible is {visible.shape} for a frame {previous_styled.shape}")
    moved = warp(previous_styled.astype(np.float32), backward_flow, sampling="lanczos")
    if engine_now is not None and engine_previous is not None:
        before = warp(engine_previous.astype(np.float32), backward_flow)
        moved = moved * light_ratio(engine_now.astype(np.float32), before, mask=visible)[..., None]
    return Carried(to_uint8(moved), visible)


def light_ratio(now: Float32Array, before: Float32Array, *, mask: Float32Array) -> Float32Array:
    """How much lighter the engine's surfaces became, per pixel: float32 [H, W] within `LIGHT_LIMITS`.

    `now`, `before`: float32 RGB [H, W, 3] in [0, 255], the second already moved; `mask`: where both show
    the same surface. The ratio is taken of display-encoded values: what a power law encodes, it also
    scales.
    """
    sigma = LIGHT_SIGMA * now.shape[0]
    luminance_now = _smooth((now @ REC709)[..., None], mask, sigma=sigma)
    luminance_before = _smooth((before @ REC709)[..., None], mask, sigma=sigma)
    ratio: Float32Array = ((luminance_now + LIGHT_FLOOR) / (luminance_before + LIGHT_FLOOR))[..., 0]
    return ratio.clip(*LIGHT_LIMITS)


def finish(styled: UInt8Array, carried: Carried, *, weight: float) -> UInt8Array:
    """The frame to show: `styled` with the share `weight` of what was carried, where that is right.

    `styled`: uint8 RGB [H, W, 3]; `weight` in [0, 1]: 0 gives `styled` back, 1 the carried pixels. The low
    band takes the share 1 - (1 - weight) / `COLOUR_MEMORY`. Where the colours disagree (a highlight or a
    shadow that moved, a wrong vector) the share falls, so that nothing stale trails behind. Raises
    ValueError otherwise.
    """
    if not 0.0 <= weight <= 1.0:
        raise ValueError(f"weight is {weight}; expected 0 to 1")
    if weight == 0.0:
        return styled
    fresh = styled.astype(np.float32)
    change = carried.pixels.astype(np.float32) - fresh  # [H, W, 3]
    low = _smooth(change, carried.mask, sigma=BAND_SIGMA * styled.shape[0])
    colour_weight = 1.0 - (1.0 - weight) / COLOUR_MEMORY
    mixed = colour_weight * low + weight * (change - low)
    share = carried.mask * _agreement(low) if weight < 1.0 else carried.mask
    return to_uint8(fresh + share[..., None] * mixed)


def _agreement(low: Float32Array) -> Float32Array:
    """Trust in the carried colour, float32 [H, W] in (0, 1]: exp(-(d / DISAGREEMENT)^2)."""
    distance = largest(low) / (255.0 * DISAGREEMENT)
    trust: Float32Array = np.exp(-np.square(distance))
    return trust


def _smooth(values: Float32Array, mask: Float32Array, *, sigma: float) -> Float32Array:
    """Gaussian of `values` [H, W, C] that sees the mask only (normalised convolution); 0 far from it."""
    # nothing beyond the frame either: a repeated edge pixel would outweigh the picture next to it
    border = cv2.BORDER_CONSTANT
    total = cv2.GaussianBlur(mask, (0, 0), sigma, borderType=border)
    weighted = cv2.GaussianBlur(values * mask[..., None], (0, 0), sigma, borderType=border)
    smoothed: Float32Array = weighted.reshape(values.shape) / np.maximum(total, 1e-4)[..., None]
    return smoothed


def to_uint8(values: Float32Array) -> UInt8Array:
    """Levels rounded to nearest and cut to 0 to 255."""
    rounded: UInt8Array = np.rint(values).clip(0, 255).astype(np.uint8)
    return rounded
