"""Which cast member, which place and which film look a styled moment is nearest to (docs/measures.md).

The constants were fixed on film truths alone, before any styled frame was judged by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from benchmarks.moments import Moment
from pipeline.image import UInt8Array
from training import likeness

LOOK_BLUR = 1.5  # px at 128: a look's grain is drawn anew in each frame and says nothing about a picture
LOOK_OFFSET = 5.0  # a picture may be lighter or darker throughout by this many units of L* at no cost
LOOK_KNEE = 20.0  # as likeness.COLOUR_KNEE


@dataclass(frozen=True)
class Choice:
    """The nearest on one axis, and the distance to every rival."""

    nearest: str
    distances: Mapping[str, float]

    @classmethod
    def of(cls, distances: Mapping[str, float]) -> Choice:
        """The choice by these distances; of equal ones the first in alphabetical order."""
        return cls(min(sorted(distances), key=lambda name: distances[name]), distances)


Rivals = Mapping[str, Mapping[str, UInt8Array]]  # axis -> name -> film truth [H, W, 3]


def judge(moment: Moment, picture: UInt8Array, rivals: Rivals) -> dict[str, Choice]:
    """The forced choice on each of the rivals' axes for a picture [H, W, 3] of the moment.

    Axes on which fewer than 64 pixels show the figure, or the set, are left out.
    """
    ids = moment.frame.ids
    regions = {"who": likeness.figure_region(ids, 1), "where": (ids >> 8) == 0}
    chosen: dict[str, Choice] = {}
    for axis, truths in rivals.items():
        if axis == "look":
            chosen[axis] = Choice.of({name: look_distance(picture, film) for name, film in truths.items()})
        elif int(regions[axis].sum()) >= likeness.MIN_REGION_PIXELS:
            parts = ids if axis == "who" else None
            _, distances = likeness.forced_choice(picture, truths, mask=regions[axis], parts=parts)
            chosen[axis] = Choice.of(distances)
    return chosen


def look_distance(picture: UInt8Array, truth: UInt8Array) -> float:
    """How unlike two grades of one frame are, in [0, 1): saturating colour difference over the whole frame.

    Lightness counts in full and its spread is not fitted, unlike in `likeness.distance`: contrast, lifted
    shadows and dark corners are what a look is. No structure: a look leaves edges where they are.
    """
    a, b = (likeness.to_lab(cv2.GaussianBlur(each, (0, 0), LOOK_BLUR)) for each in (picture, truth))
    a[..., 0] += np.clip(b[..., 0].mean() - a[..., 0].mean(), -LOOK_OFFSET, LOOK_OFFSET)
    delta = np.sqrt(((a - b) ** 2).sum(axis=-1))  # [H, W]
    return float((delta / (delta + LOOK_KNEE)).mean())
