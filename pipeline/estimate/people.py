"""Detected people become figures that keep their names from frame to frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from pipeline.image import Float32Array
from pipeline.shot import Figure, FrameJoints

FARTHEST = 0.25  # of the frame's diagonal: joints that move more from one frame to the next are another's
FORGOTTEN = 24  # frames after which a person who is not seen has left


def follow(
    people: Iterable[Float32Array], numbers: Sequence[int], *, diagonal: float
) -> Iterator[FrameJoints]:
    """Name the people of each frame: float32 [P, 18, 3] = x, y in pixels, 2 seen or 0, one array a frame.

    A person is the one seen last whose joints lie nearest; who is near to nobody is new. `numbers` are the
    frames'; `diagonal` is the picture's, in pixels.
    """
    last: dict[int, tuple[int, Float32Array]] = {}  # id -> (index of the frame, points)
    for index, (number, found) in enumerate(zip(numbers, people, strict=True)):
        known = {key: points for key, (seen, points) in last.items() if index - seen <= FORGOTTEN}
        ids = _match(known, found, FARTHEST * diagonal, first_new=max(last, default=0) + 1)
        last |= {key: (index, points) for key, points in zip(ids, found, strict=True)}
        figures = (Figure(f"figure{key}", key, points) for key, points in zip(ids, found, strict=True))
        yield FrameJoints(number, tuple(sorted(figures, key=lambda figure: figure.id)))


def _match(
    known: dict[int, Float32Array], found: Float32Array, farthest: float, *, first_new: int
) -> list[int]:
    """An id for each person found, the nearest pairs first."""
    pairs = sorted(
        (distance, key, person)
        for key, points in known.items()
        for person, each in enumerate(found)
        if (distance := _distance(points, each)) <= farthest
    )
    ids: dict[int, int] = {}
    for _, key, person in pairs:
        if key not in ids.values() and person not in ids:
            ids[person] = key
    new = iter(range(first_new, first_new + len(found)))
    return [ids[person] if person in ids else next(new) for person in range(len(found))]


def _distance(one: Float32Array, other: Float32Array) -> float:
    """Mean distance of the joints that both have, in pixels; inf where they share none."""
    both = (one[:, 2] > 0) & (other[:, 2] > 0)
    if not both.any():
        return float("inf")
    return float(np.linalg.norm(one[both, :2] - other[both, :2], axis=1).mean())
