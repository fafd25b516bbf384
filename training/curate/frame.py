"""Where to cut an image: around its subject, in the shape of an aspect bucket, never enlarged."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.image import UInt8Array
from pipeline.shot import Figure
from training.buckets import choose_bucket

MARGIN = 0.12  # of the subject's longer side, on each side of it
CROWN = 1.0  # the head reaches so far above its joints, in distances from head to neck


@dataclass(frozen=True)
class Box:
    """A part of a picture in whole pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Cut:
    """What is kept of a picture, and the size that it gets; None where it is too small for any bucket."""

    box: Box
    size: tuple[int, int] | None  # (H, W)


def box_of_mask(mask: UInt8Array) -> Box | None:
    """The part of a mask [H, W] above half; None where nothing is."""
    rows, columns = np.flatnonzero((mask > 127).any(axis=1)), np.flatnonzero((mask > 127).any(axis=0))
    if not len(rows):
        return None
    return Box(int(rows[0]), int(columns[0]), int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1)


def box_of_figure(
    figure: Figure, head: tuple[NDArray[np.float64], float] | None, *, height: int, width: int
) -> Box | None:
    """The part of a picture that a figure's joints cover, the top of its head included."""
    inside = figure.points[figure.points[:, 2] > 0, :2]
    if len(inside) < 2:
        return None
    (left, top), (right, bottom) = inside.min(axis=0), inside.max(axis=0)
    if head is not None:
        middle, reach = head
        top, left, right = (
            min(top, middle[1] - CROWN * reach),
            min(left, middle[0] - 0.7 * reach),
            max(right, middle[0] + 0.7 * reach),
        )
        if bottom - top < 3.0 * reach:  # a closeup: what is below the neck belongs to it
            bottom = height - 1
    y0, y1 = (int(np.clip(round(float(value)), 0, height - 1)) for value in (top, bottom))
    x0, x1 = (int(np.clip(round(float(value)), 0, width - 1)) for value in (left, right))
    return Box(y0, x0, y1 - y0 + 1, x1 - x0 + 1)


def cut_around(subject: Box | None, *, height: int, width: int, base: int, step: int) -> Cut:
    """The cut of a picture for a model of `base` pixels and buckets in steps of `step` (0: one square).

    With a `subject` it holds that with a margin, and no more of the picture than a whole bucket's pixels
    need; without one, all of the picture that the best bucket keeps.
    """
    around = Box(0, 0, height, width) if subject is None else _with_margin(subject, height, width)
    if subject is not None:
        around = _grown(around, base=base, step=step, height=height, width=width)
    size = choose_bucket(around.height, around.width, base=base, step=step)
    if size is None:
        return Cut(around, None)
    return Cut(_shaped(around, size, height=height, width=width), size)


def _with_margin(box: Box, height: int, width: int) -> Box:
    margin = round(MARGIN * max(box.height, box.width))
    top, left = max(0, box.top - margin), max(0, box.left - margin)
    bottom, right = min(height, box.top + box.height + margin), min(width, box.left + box.width + margin)
    return Box(top, left, bottom - top, right - left)


def _grown(box: Box, *, base: int, step: int, height: int, width: int) -> Box:
    """The box with as much around it as brings it to a bucket's pixels without enlarging."""
    if step == 0:  # one bucket, a square
        tall, wide = min(height, max(box.height, base)), min(width, max(box.width, base))
        return _placed(box, tall, wide, height=height, width=width)
    scale = max(1.0, base / math.sqrt(box.height * box.width))
    tall, wide = min(height, round(box.height * scale)), min(width, round(box.width * scale))
    # where one side meets the picture's edge, the other makes up for it
    tall = min(height, max(tall, -(-base * base // wide)))
    wide = min(width, max(wide, -(-base * base // tall)))
    return _placed(box, tall, wide, height=height, width=width)


def _shaped(box: Box, size: tuple[int, int], *, height: int, width: int) -> Box:
    """A box of the bucket's aspect that holds `box` if the picture is large enough, else the most of it."""
    scale = max(box.height / size[0], box.width / size[1])
    if round(size[0] * scale) > height or round(size[1] * scale) > width:
        scale = min(height / size[0], width / size[1])
    tall, wide = min(height, round(size[0] * scale)), min(width, round(size[1] * scale))
    return _placed(box, tall, wide, height=height, width=width)


def _placed(box: Box, tall: int, wide: int, *, height: int, width: int) -> Box:
    """A box of this size around the middle of `box`, shifted into the picture."""
    top = min(max(0, box.top + (box.height - tall) // 2), height - tall)
    left = min(max(0, box.left + (box.width - wide) // 2), width - wide)
    return Box(top, left, tall, wide)
