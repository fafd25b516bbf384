"""The render's change of light, put back on surfaces that are carried from another frame.

The engine's picture tells how much lighter each place became. How the styled picture answers to that, channel
by channel, is measured between key frames that show the same surfaces: a lamp that turns red takes blue away
and leaves red, and an engine whose shading the style ignores changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.image import Float32Array, UInt8Array

LIGHT_SIGMA = 5.0 / 128.0  # of the frame's height: shading varies over limbs, texture over less
LIGHT_FLOOR = 12.0  # levels of 255; keeps ratios of near-black frames tame
LEAST_CHANGE, MOST_CHANGE = 0.5, 2.0  # more between two keys is a flash: a key is missing there
PRIOR = 0.02  # log ratio: where light changes by less (root mean square) there is nothing to learn from
MOST_ANSWER = 2.0


def log_light(frame: UInt8Array) -> Float32Array:
    """Logarithm of the wide luma of an engine's picture, uint8 [H, W, 3]: float32 [H, W]."""
    luma = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    logs: Float32Array = np.log(_wide(luma))
    return logs


def log_colour(frame: Float32Array) -> Float32Array:
    """Logarithms of a styled picture's wide colours, [H, W, 3] in levels of 255."""
    logs: Float32Array = np.log(np.maximum(_wide(frame), 1.0))
    return logs


@dataclass(frozen=True)
class Answer:
    """Sums over points seen in two keys, of which the style's answer to the light is fitted.

    `both` [3]: of the log ratio of the engine's light times those of the styled colours; `engine`: of its
    square; `count`: of the points.
    """

    both: NDArray[np.float64]
    engine: float
    count: float

    @classmethod
    def of(cls, engine: Float32Array, styled: Float32Array) -> Answer:
        """`engine` [N], `styled` [N, 3]: log ratios between two keys."""
        return cls((engine @ styled).astype(np.float64), float(engine @ engine), float(len(engine)))


def exponents(answers: Sequence[Answer]) -> Float32Array:
    """How the style answers to the engine's light, float32 [3]: 0 = not at all, 1 = like it.

    Least squares through the origin, with a prior of 1 that counts where the light hardly changes.
    """
    both = np.sum([a.both for a in answers], axis=0) if answers else np.zeros(3)
    engine = sum(a.engine for a in answers)
    prior = PRIOR**2 * max(sum(a.count for a in answers), 1.0)
    fitted: Float32Array = np.clip((both + prior) / (engine + prior), 0.0, MOST_ANSWER).astype(np.float32)
    return fitted


def light_change(now: Float32Array, then: Float32Array, fitted: Float32Array) -> Float32Array:
    """What carried colours are multiplied by: float32 [H, W, 3] from `LEAST_CHANGE` to `MOST_CHANGE`.

    `now`, `then`: `log_light` of this frame and of the key's, moved here; `fitted`: of `exponents`.
    """
    logs = (now - then)[..., None] * fitted
    change: Float32Array = np.exp(np.clip(logs, math.log(LEAST_CHANGE), math.log(MOST_CHANGE)))
    return change


def _wide(values: Float32Array) -> Float32Array:
    sigma = LIGHT_SIGMA * len(values)
    wide: Float32Array = cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return wide + np.float32(LIGHT_FLOOR)
