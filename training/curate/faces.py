"""How light a face is in each image: CIELAB and the individual typology angle of skin.

ITA = atan((L* - 50) / b*) in degrees (Chardon et al. 1991): very light above 55, light to 41, intermediate to
28, tan to 10, brown to -30, dark below. It is what the picture shows, coloured light included, so it is given
as a distribution and no finding: whether it is the person or the light, only an eye can tell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.image import UInt8Array

ITA_CLASSES = (
    (55.0, "very light"),
    (41.0, "light"),
    (28.0, "intermediate"),
    (10.0, "tan"),
    (-30.0, "brown"),
    (-90.0, "dark"),
)
_HALF = 0.35  # of the distance from head to neck: the part of the face between brow and mouth
LEAST = 16  # pixels of face


@dataclass(frozen=True)
class Face:
    """The middle of a face: median L* and ITA in degrees."""

    lightness: float
    ita: float

    @property
    def tone(self) -> str:
        """Chardon's class."""
        return next((name for least, name in ITA_CLASSES if self.ita >= least), "dark")


def face_of(picture: UInt8Array, middle: NDArray[np.float64], reach: float) -> Face | None:
    """The face around `middle` [2] (x, y), `reach` pixels from the neck; None where it is hardly there."""
    left, right = (round(float(middle[0]) + side * _HALF * reach) for side in (-1, 1))
    top, bottom = (round(float(middle[1]) + side * _HALF * reach) for side in (-1, 1))
    patch = picture[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
    if patch.size < 3 * LEAST:
        return None
    lab = cv2.cvtColor(np.ascontiguousarray(patch).astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)
    lightness, _, b = (float(value) for value in np.median(lab.reshape(-1, 3), axis=0))
    return Face(lightness, math.degrees(math.atan2(lightness - 50.0, max(b, 1e-3))))
