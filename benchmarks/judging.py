"""Which cast member, which place and which film look a styled moment is nearest to (docs/measures.md).

The constants were fixed on film truths alone, before any styled frame was judged by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.moments import Moment
from pipeline.image import UInt8Array
from training import likeness


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
            chosen[axis] = Choice.of(
                {name: likeness.look_distance(picture, film) for name, film in truths.items()}
            )
        elif int(regions[axis].sum()) >= likeness.MIN_REGION_PIXELS:
            parts = ids if axis == "who" else None
            _, distances = likeness.forced_choice(picture, truths, mask=regions[axis], parts=parts)
            chosen[axis] = Choice.of(distances)
    return chosen
