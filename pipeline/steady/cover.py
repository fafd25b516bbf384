"""Which frames to style as keys: a greedy cover of the surface that a shot shows.

Surface is followed from frame to frame at a small size: each pixel carries the number of its track on along
the motion, and where something new appears new tracks begin. A key knows the tracks that it shows, for as far
in time as a key may reach. The frame whose tracks explain most of what no key explains yet is the next key.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.image import Float32Array
from pipeline.steady.metrics import Step
from pipeline.steady.warp import BoolArray, source_points

Tracks = NDArray[np.int32]

CELL = 2  # pixels: places nearer than this at birth are one track, so that sampling steps over none
LEAST_GAIN = 0.02  # of a frame, in each frame within reach: a key that explains less is not worth it
LEAST_APART = 2  # frames between keys
LEAST_HOLE = 0.008  # of the frame: a smaller hole is filled from around it
LEAST_PATCH_GAIN = 0.05  # of a frame, summed over the frames it helps
LARGEST_PATCH = 0.4  # of the frame: a larger box is worth a key
PATCH_MARGIN = 1  # pixels at the tracks' size: what is around a hole is its context


@dataclass(frozen=True)
class Patch:
    """A place of a frame that no key saw, to be styled by itself; the box in shares of the frame."""

    frame: int
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Cover:
    """The keys of a stretch of frames, and what they leave.

    `keys`: frame numbers, rising. `explained`: for each frame the share of its surface (by weight) that a key
    within reach shows; `holes`: the share of its pixels that none does. `patches`: the largest of these.
    """

    keys: tuple[int, ...]
    patches: tuple[Patch, ...]
    explained: tuple[float, ...]
    holes: tuple[float, ...]


def follow(first: tuple[int, int], backward: Iterable[Step]) -> list[Tracks]:
    """Track numbers of each frame, int32 [h, w], from the steps t -> t - 1 of frames 1 on.

    `first`: height and width. A pixel whose surface was not seen in the frame before begins a track. Each
    pixel carries the frame and the place (to fractions of a pixel) where its track began, so that slow motion
    adds up.
    """
    height, width = first
    y, x = (axis.astype(np.float32) for axis in np.mgrid[0:height, 0:width])
    born, from_x, from_y = np.zeros(first, np.int32), x, y
    frames = [_numbers(born, from_x, from_y)]
    for t, step in enumerate(backward, start=1):
        to_x, to_y = source_points(step.flow)
        column = np.clip(np.rint(to_x), 0, width - 1)
        row = np.clip(np.rint(to_y), 0, height - 1)
        at = row.astype(np.intp), column.astype(np.intp)
        born = np.where(step.seen, born[at], np.int32(t))
        from_x = np.where(step.seen, from_x[at] + (to_x - column), x)
        from_y = np.where(step.seen, from_y[at] + (to_y - row), y)
        frames.append(_numbers(born, from_x, from_y))
    return frames


def _numbers(born: Tracks, x: Float32Array, y: Float32Array) -> Tracks:
    """One number for each cell and frame of birth."""
    height, width = (-(-side // CELL) for side in born.shape)
    column = np.clip(x / CELL, 0, width - 1).astype(np.int32)
    row = np.clip(y / CELL, 0, height - 1).astype(np.int32)
    numbers: Tracks = (born * height + row) * width + column
    return numbers


def choose(
    tracks: Sequence[Tracks],
    weights: Sequence[Float32Array],
    *,
    reach: int,
    forced: Iterable[int] = (),
) -> Cover:
    """Keys for frames that belong together, at most `reach` frames apart.

    `tracks` of `follow`; `weights` float32 [h, w] of each frame: how much each pixel matters; `forced`:
    frames that are keys whatever they show. The first and the last are keys too, so that each frame has one
    on either side.
    """
    last = len(tracks) - 1
    open_ = [np.ones(each.shape, bool) for each in tracks]  # what no key explains yet
    keys: set[int] = set()

    def take(key: int) -> None:
        keys.add(key)
        shown = _shown(tracks, key)
        for t in range(max(0, key - reach), min(last, key + reach) + 1):
            open_[t] &= ~shown[tracks[t]]

    for key in sorted({0, last, *forced}):
        take(key)
    while (best := _best(tracks, weights, open_, keys, reach=reach)) is not None:
        take(best)
    for key in _between(sorted(keys), reach):
        take(key)
    patches = []
    while (found := _largest_hole(open_)) is not None:
        t, box = found
        gain = _explain(tracks, open_, t, box, reach=reach)
        if gain < LEAST_PATCH_GAIN * open_[t].size:
            continue
        left, top, right, bottom = box
        if (right - left) * (bottom - top) > LARGEST_PATCH * open_[t].size and t not in keys:
            take(t)
        else:
            patches.append(_as_patch(t, box, open_[t].shape))
    missed = [_opened(hole) for hole in open_]  # what is left, patched or not worth it, is filled from around
    explained = tuple(1.0 - float((m * w).sum() / w.sum()) for m, w in zip(missed, weights, strict=True))
    return Cover(tuple(sorted(keys)), tuple(patches), explained, tuple(float(m.mean()) for m in missed))


def _opened(hole: BoolArray) -> BoolArray:
    """A hole without specks: tracks that a key's sampling has stepped over are no hole."""
    opened: BoolArray = cv2.morphologyEx(hole.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8)) > 0
    return opened


def _shown(tracks: Sequence[Tracks], key: int) -> BoolArray:
    """Whether a key shows each track, bool [number of tracks]."""
    shown = np.zeros(1 + max(int(each.max()) for each in tracks), bool)
    shown[tracks[key]] = True
    return shown


def _best(
    tracks: Sequence[Tracks],
    weights: Sequence[Float32Array],
    open_: Sequence[BoolArray],
    keys: set[int],
    *,
    reach: int,
) -> int | None:
    """The frame that would explain most; None where none is worth a key."""
    last = len(tracks) - 1
    pixels = tracks[0].size
    missed = [_opened(each) for each in open_]
    waiting = [(tracks[t][missed[t]], weights[t][missed[t]]) for t in range(last + 1)]
    best, best_gain = None, LEAST_GAIN * pixels * reach
    for key in range(last + 1):
        if min(abs(key - other) for other in keys) < LEAST_APART:
            continue
        shown = _shown(tracks, key)
        near = waiting[max(0, key - reach) : key + reach + 1]
        gain = sum(float(w[shown[numbers]].sum()) for numbers, w in near if len(numbers))
        if gain > best_gain:
            best, best_gain = key, gain
    return best


def _between(keys: Sequence[int], reach: int) -> list[int]:
    """Keys to add so that no two are further apart than `reach`, evenly."""
    added = []
    for a, b in itertools.pairwise(keys):
        parts = -(-(b - a) // reach)
        added += [a + round(i * (b - a) / parts) for i in range(1, parts)]
    return added


def _largest_hole(open_: Sequence[BoolArray]) -> tuple[int, tuple[int, int, int, int]] | None:
    """The frame with the largest connected hole, and its box (left, top, right, bottom)."""
    best: tuple[int, tuple[int, int, int, int]] | None = None
    area = LEAST_HOLE * open_[0].size
    for t, hole in enumerate(open_):
        if hole.sum() <= area:
            continue
        opened = _opened(hole).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=8)
        for left, top, wide, high, pixels in stats[1:count]:
            if pixels > area:
                area = float(pixels)
                best = (t, (int(left), int(top), int(left + wide), int(top + high)))
    return best


def _explain(
    tracks: Sequence[Tracks],
    open_: Sequence[BoolArray],
    frame: int,
    box: tuple[int, int, int, int],
    *,
    reach: int,
) -> float:
    """Take what a patch would show out of what is open; returns how many pixels that are, over all frames."""
    left, top, right, bottom = box
    shown = np.zeros(1 + max(int(each.max()) for each in tracks), bool)
    inside = tracks[frame][top:bottom, left:right]
    shown[inside[open_[frame][top:bottom, left:right]]] = True
    gain = int(open_[frame][top:bottom, left:right].sum())
    open_[frame][top:bottom, left:right] = False
    for t in range(max(0, frame - reach), min(len(tracks), frame + reach + 1)):
        explained = open_[t] & shown[tracks[t]]
        gain += int(explained.sum())
        open_[t] &= ~explained
    return float(gain)


def _as_patch(frame: int, box: tuple[int, int, int, int], shape: tuple[int, ...]) -> Patch:
    height, width = shape
    left, top, right, bottom = box
    return Patch(
        frame,
        max(0, left - PATCH_MARGIN) / width,
        max(0, top - PATCH_MARGIN) / height,
        min(width, right + PATCH_MARGIN) / width,
        min(height, bottom + PATCH_MARGIN) / height,
    )
