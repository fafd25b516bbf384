"""Which frames of a film could be training images: sharp, lit, inside a shot, in no dissolve.

Two passes over the frames: PySceneDetect finds the cuts, then each frame is measured. Memory is a window of
frames and at most `MOST_CANDIDATES` sets of measures, whatever the length.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.image import UInt8Array, resize
from pipeline.shot import Shot, iterate_frames
from pipeline.shot.split import find_cuts
from training.curate.measure import BLURRED_BELOW, TOO_BRIGHT, TOO_DARK, Measures, measure

FloatArray = NDArray[np.float64]
OnFrame = Callable[[str, int, int], None]  # what, frames done, frames in all

MOST_CANDIDATES = 2000  # about 10 kB each
WINDOW = 16  # frames read at a time
MARGIN = 2  # frames beside a cut that may hold both pictures: interlaced or encoded across it
LOOKED_AT = 256  # pixels of the shorter side
LAYOUT = 8  # the picture as so many times so many colours
REACHES = (4, 8, 16, 32)  # frames either way that a dissolve is looked for over: up to 64 frames long
ENDS_DIFFER = 0.6  # a dissolve's ends correlate less than this
GHOST = 0.04  # least share of the fainter picture
LEFT_OVER = 0.06  # of the ends' difference: what a mixture of the two leaves unexplained


@dataclass(frozen=True)
class Candidate:
    """A frame that may be taken, by index from 0."""

    index: int
    measures: Measures
    layout: FloatArray  # [LAYOUT * LAYOUT * 3], Lab


@dataclass(frozen=True)
class Film:
    """What was found in a film."""

    cuts: tuple[tuple[int, int], ...]
    """Its shots as frames [start, stop)."""
    candidates: tuple[Candidate, ...]
    """The sharpest usable frame of each short stretch, in order."""
    passed_over: dict[str, int]
    """Why frames were not taken -> how many."""


def find_candidates(shot: Shot, *, on_frame: OnFrame | None = None) -> Film:
    """Look through all frames of `shot`. Raises `ShotError` for one that cannot be read."""

    def cutting(done: int, total: int) -> None:
        if on_frame is not None:
            on_frame("cuts", done, total)

    cuts = find_cuts(shot, on_frame=cutting) if shot.num_frames > 1 else [(0, 1)]
    stretch = max(1, -(-shot.num_frames // MOST_CANDIDATES))
    passed = dict.fromkeys(("beside a cut", "in a dissolve", "blurred", "dark or blown out"), 0)
    best: dict[int, Candidate] = {}  # stretch -> its sharpest
    for start, stop in cuts:
        margin = MARGIN if stop - start > 4 * MARGIN else 0
        first = start + (margin if start > 0 else 0)
        last = stop - (margin if stop < shot.num_frames else 0)
        passed["beside a cut"] += (stop - start) - (last - first)
        for each, mixed in _with_mixtures(shot, start, stop):
            if on_frame is not None:
                on_frame("frames", each.index + 1, shot.num_frames)
            if not first <= each.index < last:
                continue
            why = "in a dissolve" if mixed else _fault(each.measures)
            if why:
                passed[why] += 1
                continue
            rival = best.get(each.index // stretch)
            if rival is None or each.measures.sharpness > rival.measures.sharpness:
                best[each.index // stretch] = each
    ordered = tuple(sorted(best.values(), key=lambda each: each.index))
    return Film(tuple(cuts), ordered, {why: count for why, count in passed.items() if count})


def _fault(measures: Measures) -> str:
    """Why a frame by itself cannot be used; "" where it can."""
    if not TOO_DARK <= measures.lightness <= TOO_BRIGHT:
        return "dark or blown out"
    return "blurred" if measures.sharpness < BLURRED_BELOW else ""


def _looked_at(index: int, frame: UInt8Array) -> Candidate:
    shrink = max(1.0, min(frame.shape[:2]) / LOOKED_AT)
    height, width = (max(1, round(side / shrink)) for side in frame.shape[:2])
    small = np.asarray(resize(frame, height=height, width=width), np.uint8)
    patches = cv2.resize(small, (LAYOUT, LAYOUT), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(patches.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)
    return Candidate(index, measure(small), np.asarray(lab.ravel(), np.float64))


def _with_mixtures(shot: Shot, start: int, stop: int) -> Iterator[tuple[Candidate, bool]]:
    """Each frame of [start, stop), measured, and whether it lies in a mixture of frames before and after it.

    The frames themselves are let go at once; measures wait until all is known that decides them.
    """
    reach, wait = max(REACHES), max(REACHES) + max(REACHES) // 2
    held: deque[Candidate] = deque()
    small: dict[int, Glance] = {}
    spans: deque[tuple[int, int]] = deque()  # frames [first, last] of mixtures
    judged = start

    def judge(index: int) -> None:
        """Whether frame `index` is in a mixture decides those around it: its middle is surest."""
        ends = (max(start, index - reach), min(stop - 1, index + reach))
        for k in REACHES:
            if is_mixture(small[index], small[max(ends[0], index - k)], small[min(ends[1], index + k)]):
                side = max(REACHES[0], k // 2) + MARGIN
                spans.append((index - side, index + side))
                break
        small.pop(index - reach, None)

    index = start
    for window in iterate_frames(shot, WINDOW, start=start, stop=stop):
        for frame in window:
            small[index] = glance(frame)
            held.append(_looked_at(index, frame))
            index += 1
            while judged + reach < index:
                judge(judged)
                judged += 1
            while held and held[0].index + wait < index:
                yield _release(held, spans)
    while judged < stop:
        judge(judged)
        judged += 1
    while held:
        yield _release(held, spans)


def _release(held: deque[Candidate], spans: deque[tuple[int, int]]) -> tuple[Candidate, bool]:
    each = held.popleft()
    while spans and spans[0][1] < each.index:
        spans.popleft()
    return each, any(first <= each.index <= last for first, last in spans)


@dataclass(frozen=True)
class Glance:
    """What tells a mixture: small colours [24 * 24 * 3], and how much detail there is (squared steps)."""

    colours: FloatArray
    detail: float


def glance(frame: UInt8Array) -> Glance:
    """A frame at a glance."""
    small = cv2.resize(frame, (24, 24), interpolation=cv2.INTER_AREA)
    fine = cv2.resize(frame, (96, 96), interpolation=cv2.INTER_AREA).astype(np.float64).mean(axis=2)
    steps = float((np.diff(fine, axis=0) ** 2).sum() + (np.diff(fine, axis=1) ** 2).sum())
    return Glance(np.asarray(small.ravel(), np.float64), steps)


def is_mixture(here: Glance, before: Glance, after: Glance) -> bool:
    """Whether a picture is a weighted sum of two that differ: a dissolve, or a fade from or to black.

    A weighted sum leaves nothing of the picture unexplained, and it has less detail than either: of two
    pictures' squared steps it keeps the squared shares. What moves keeps its detail.
    """
    apart = after.colours - before.colours
    length = float(apart @ apart)
    if length < 1e-9 or _correlation(before.colours, after.colours) > ENDS_DIFFER:
        return False
    share = float((here.colours - before.colours) @ apart) / length
    rest = here.colours - before.colours - share * apart
    if not GHOST < share < 1.0 - GHOST or float(rest @ rest) > LEFT_OVER * length:
        return False
    moved = (1.0 - share) * before.detail + share * after.detail
    mixed = (1.0 - share) ** 2 * before.detail + share**2 * after.detail
    return here.detail < (moved + mixed) / 2.0


def _correlation(a: Sequence[float] | FloatArray, b: Sequence[float] | FloatArray) -> float:
    first, second = np.asarray(a) - np.mean(a), np.asarray(b) - np.mean(b)
    scale = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / scale if scale > 1e-6 else 0.0  # a plain picture is like none
