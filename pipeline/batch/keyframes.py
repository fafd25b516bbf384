"""What method `keys` would style of a shot, before it does: the timeline that its render would make.

It is read where a render has begun, else made here in memory: the shot is read once and no torch is loaded.
Where that would take long, the first frames stand for all.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.footage import Footage
from pipeline.journal import Journal
from pipeline.plan import Plan
from pipeline.shot import Shot
from pipeline.steady.cover import Patch
from pipeline.timeline import CHUNK, Timeline, make_timeline, read_timeline

MOST_SECONDS = 30.0  # a shot: a dry run of a folder must not take the evening
PROBED = 4  # frames whose reading tells how long all take
LEAST_CROP = 0.5  # of the frame each way, where the frame has the model's own size
CROP_CONTEXT = 0.125  # of the frame that a crop is wider than its hole


@dataclass(frozen=True)
class KeyFrames:
    """What is styled of a shot: `num_keys` key frames, `num_alone` frames of stretches that keys would not
    serve, `crops` frames' worth of holes. `num_kept`: keys that are there. `is_exact`: not from a part of the
    shot, or without passes that the render estimates first.
    """

    num_keys: int
    num_alone: int
    crops: float
    num_kept: int = 0
    is_exact: bool = True


def key_frames(shot: Shot, plan: Plan, journal: Journal, *, most_seconds: float = MOST_SECONDS) -> KeyFrames:
    """What a render of this plan by method "keys" would style. Raises ShotError for what is damaged."""
    if (begun := journal.timeline()) is not None:
        return _counted(read_timeline(begun), num_kept=journal.num_keys())
    footage = Footage(shot, width=plan.width, height=plan.height)
    length = _affordable(footage, shot.num_frames, most_seconds)
    part = dataclasses.replace(shot, num_frames=length)
    timeline = make_timeline(
        part,
        Footage(part, width=plan.width, height=plan.height),
        reach=plan.key_every,
        forced=[t for t in plan.key_frames if t < length],
    )
    found = _counted(timeline)
    if length == shot.num_frames:
        return dataclasses.replace(found, is_exact=not plan.estimates)
    scale = shot.num_frames / length
    return KeyFrames(
        round(found.num_keys * scale), round(found.num_alone * scale), found.crops * scale, is_exact=False
    )


def _affordable(footage: Footage, num_frames: int, most_seconds: float) -> int:
    """How many frames are looked at: all where that is quick."""
    if num_frames <= CHUNK:
        return num_frames
    started = time.perf_counter()
    for t in range(1, PROBED + 1):
        footage.engine(t)
        footage.back(t)
        footage.surfaces(t)
    seconds = (time.perf_counter() - started) / PROBED * num_frames
    return num_frames if seconds <= most_seconds else CHUNK


def _counted(timeline: Timeline, *, num_kept: int = 0) -> KeyFrames:
    carried = [stretch for stretch in timeline if stretch.method == "keys"]
    alone = [stretch for stretch in timeline if stretch.method != "keys"]
    return KeyFrames(
        num_keys=sum(len(stretch.keys) for stretch in carried),
        num_alone=sum(stretch.stop - stretch.start for stretch in alone),
        crops=_crops([patch for stretch in carried for patch in stretch.patches]),
        num_kept=num_kept,
    )


def _crops(patches: Sequence[Patch]) -> float:
    """Frames' worth of pixels of the crops around holes."""

    def side(low: float, high: float) -> float:
        return min(1.0, max(high - low + CROP_CONTEXT, LEAST_CROP))

    return sum(side(p.left, p.right) * side(p.top, p.bottom) for p in patches)
