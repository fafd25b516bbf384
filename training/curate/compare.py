"""Who is on a concept's images: which of them are compared with the others, by what, and what that says.

Film stills of the stage, by their joints.json, are read by its own recogniser, which finds strangers. All
other images are only ranked, by a general model's features where one is at hand: no threshold is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.image import UInt8Array
from training.curate.features import Features
from training.curate.outliers import MIN_JUDGED, difference, farthest, outliers, strangers
from training.curate.recognise import MIN_HEAD, cut_head, load_recogniser
from training.curate.views import Seen, find_head

FloatArray = NDArray[np.float64]

_AROUND_HEAD = 1.8  # half width of what a general model sees, in units of head to neck


@dataclass(frozen=True)
class Compared:
    """What was found out; images by their index."""

    by: str
    """One line: how many were compared and how, or why none."""
    strangers: Mapping[int, str] = field(default_factory=dict)
    """What is said of each image that does not look like the others."""
    ranked: tuple[int, ...] = ()
    """The images compared, those least like the others first."""


@dataclass(frozen=True)
class Shown:
    """One image as this needs it."""

    picture: UInt8Array  # [H, W, 3]
    seen: Seen
    is_dark: bool  # nobody can be told apart in it


def compare(images: Sequence[Shown], find: Callable[[], Features | None]) -> Compared:
    """Compare a character's images with each other.

    `find` gives the general image model and is asked only where it is used; what it raises comes through.
    """
    heads = {
        index: head
        for index, image in enumerate(images)
        if not image.is_dark and (head := _head(image.seen)) is not None
    }
    staged = [n for n in heads if images[n].seen.is_staged]
    if len(staged) >= MIN_JUDGED:
        return _by_recogniser(images, {n: heads[n] for n in staged})
    return _by_features(images, heads, find)


def _head(seen: Seen) -> tuple[FloatArray, float] | None:
    head = find_head(seen.figure) if seen.figure is not None else None
    return head if head is not None and head[1] >= MIN_HEAD else None


def _by_recogniser(images: Sequence[Shown], heads: Mapping[int, tuple[FloatArray, float]]) -> Compared:
    recogniser = load_recogniser()
    numbers = list(heads)
    read = recogniser.read([cut_head(images[n].picture, *heads[n]) for n in numbers])
    chances = strangers(read, recogniser.known)
    return Compared(
        f"{len(numbers)} of {len(images)} heads, by the stage's recogniser",
        {numbers[at]: difference(read, at, recogniser.known) for at in outliers(chances)},
        tuple(numbers[at] for at in np.argsort(-chances, kind="stable")),
    )


def _by_features(
    images: Sequence[Shown],
    heads: Mapping[int, tuple[FloatArray, float]],
    find: Callable[[], Features | None],
) -> Compared:
    """Heads where they are known of enough images, else whole pictures."""
    bright = [n for n, image in enumerate(images) if not image.is_dark]
    by_head = len(heads) >= MIN_JUDGED
    numbers = list(heads) if by_head else bright
    if len(numbers) < MIN_JUDGED:
        return Compared(f"none: fewer than {MIN_JUDGED} images that show anything")
    features = find()
    if features is None:
        return Compared(
            f"none: fewer than {MIN_JUDGED} heads of the stage, and no image model at hand (--model)"
        )
    pictures = [_close(images[n].picture, *heads[n]) if by_head else images[n].picture for n in numbers]
    order = farthest(features.look(pictures), [images[n].seen.angle for n in numbers])
    what = "heads" if by_head else "whole pictures"
    said = f"{len(numbers)} of {len(images)} {what}, by {features.name}: a ranking, nobody is judged"
    return Compared(said, ranked=tuple(numbers[at] for at in order))


def _close(picture: UInt8Array, middle: FloatArray, reach: float) -> UInt8Array:
    """The part of the picture around a head; never empty."""
    height, width = picture.shape[:2]
    x0, y0 = (max(0, int(place - _AROUND_HEAD * reach)) for place in middle)
    x1, y1 = (int(place + _AROUND_HEAD * reach) + 1 for place in middle)
    part = picture[y0 : min(y1, height), x0 : min(x1, width)]
    return part if min(part.shape[:2]) >= 2 else picture
