"""The temporal methods: how the frames of a shot that are not there yet are made.

    frame   each alone, in groups
    blend   each leans on the one before it, carried along the motion
    keys    few are styled and carried to the others; where that would lose, one of the two above

A method takes a `Work` and writes frames to its journal, in order; it returns how many it made. One for video
models would style `Work.inputs(start, stop)`, a window of frames, at once.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from pipeline.diffuse import KnownPixels
from pipeline.footage import Footage
from pipeline.image import UInt8Array
from pipeline.journal import TIMELINE, Journal
from pipeline.keys import Carrier
from pipeline.output import write_strip
from pipeline.plan import Plan
from pipeline.shot import Shot
from pipeline.steady import Carried, carry, finish
from pipeline.steady.blend import to_uint8
from pipeline.steady.grain import Grain, with_grain
from pipeline.steady.metrics import Step, chain
from pipeline.steady.visibility import soften
from pipeline.styling import Inputs, Stylist, read_inputs
from pipeline.timeline import Foresight, Stretch, Timeline, make_timeline, read_timeline, write_timeline

OnFrame = Callable[[str, int, int], None]  # (shot's name, frames done, frames in all)
Group = tuple[int, int]  # start, stop
HANDS = min(4, os.cpu_count() or 1)  # threads that put frames together; each holds a frame's views
KnownFor = Callable[[int, int], KnownPixels | None]


@dataclass
class Work:
    """One render on its way: the shot, the model, the journal, whom to tell; what is known `ahead`."""

    shot: Shot
    stylist: Stylist
    journal: Journal
    on_frame: OnFrame
    ahead: Foresight | None = None
    done: int = field(init=False)

    def __post_init__(self) -> None:
        total = self.plan.num_frames
        mine = range(*(self.journal.span or (0, total)))
        self.done = total - sum(not self.journal.has(t, t + 1) for t in mine)

    @property
    def plan(self) -> Plan:
        return self.journal.plan

    @cached_property
    def footage(self) -> Footage:
        if self.ahead is not None:
            return self.ahead.footage
        return Footage(self.shot, width=self.plan.width, height=self.plan.height)

    def inputs(self, start: int, stop: int) -> Inputs:
        """What the model sees of a window of frames."""
        return read_inputs(self.shot, self.plan, start, stop)

    def write(self, start: int, frames: UInt8Array) -> None:
        """Write frames [T, H, W, 3] from index `start` on, and tell."""
        new = sum(not self.journal.has(t, t + 1) for t in range(start, start + len(frames)))
        self.journal.write(start, frames)
        self.done += new
        self.on_frame(self.plan.shot, self.done, self.plan.num_frames)


def by_frame(work: Work) -> int:
    """Each frame alone."""
    return frames_alone(work, 0, work.plan.num_frames)


def by_blend(work: Work) -> int:
    """Frame after frame, each leaning on the one before it."""
    return frames_blended(work, 0, work.plan.num_frames)


def by_keys(work: Work) -> int:
    """Key frames carried along the motion, stretch by stretch between cuts."""
    made = 0
    for alone, run in itertools.groupby(timeline_of(work), key=lambda stretch: stretch.method == "frame"):
        stretches = list(run)
        if alone:  # in groups over the cuts between them: such a frame needs no other
            made += frames_alone(work, stretches[0].start, stretches[-1].stop)
        else:
            made += sum(STRETCHES[stretch.method](work, stretch) for stretch in stretches)
    return made


METHODS: dict[str, Callable[[Work], int]] = {"frame": by_frame, "blend": by_blend, "keys": by_keys}


def frames_alone(work: Work, start: int, stop: int) -> int:
    """Frames start .. stop - 1, each alone, in groups; a group with a frame missing is made as a whole.

    While a group is computed, the next is read and the one before it written.
    """
    todo = _todo(work, start, stop)
    with ThreadPoolExecutor(1) as writer:
        written: deque[Future[None]] = deque()
        for first, styled in _styled(work, todo):
            if written:
                written.popleft().result()
            written.append(writer.submit(work.write, first, _grainy(work, first, styled)))
        for each in written:
            each.result()
    made = sum(stop - start for start, stop in todo)
    work.journal.add_denoised(made)
    return made


def frames_blended(work: Work, start: int, stop: int) -> int:
    """Frames start .. stop - 1, each with the frame before it blended in where that is still seen.

    A group is styled at once. Where known pixels are held in its latents, they are those of the last frame
    before the group, carried to each of its frames.
    """
    made, looks = 0, work.plan.looks
    hold = any(look.blend_until > 0.0 for look in looks[start:stop])
    alone = start + 1 if hold else start  # the first frame, so that all others have one before their group
    todo = _todo(work, start, alone) + _todo(work, alone, stop)
    for first, styled in _styled(work, todo, known=lambda a, b: _held_back(work, start, a, b), hold=hold):
        for t, frame in enumerate(styled, start=first):
            if work.journal.has(t, t + 1):
                continue
            if t > start:
                before = _clean(work, t - 1)
                carried = _carried(work, before, t - 1, t, work.footage.back(t))
                frame = finish(frame, carried, weight=looks[t].blend_weight)
            work.write(t, _grainy(work, t, frame[None]))
            made += 1
    work.journal.add_denoised(made)
    return made


def frames_carried(work: Work, stretch: Stretch) -> int:
    """The frames of a stretch from its keys, from the first that is missing on."""
    journal, plan = work.journal, work.plan
    numbers = range(stretch.start, stretch.stop)
    first = next((t for t in numbers if not journal.has(t, t + 1)), None)
    if first is None:
        return 0
    with (
        ThreadPoolExecutor(1) as model,
        ThreadPoolExecutor(HANDS) as hands,
        ThreadPoolExecutor(1) as writer,
    ):
        grain = None if plan.grain is None else Grain(plan.grain)
        carrier = Carrier(work.shot, work.stylist, work.footage, journal.keys, stretch, model, hands, grain)
        written: deque[Future[None]] = deque()
        try:
            for t, frame in carrier.frames(first):
                if len(written) > 1:
                    written.popleft().result()
                written.append(writer.submit(work.write, t, frame[None]))
            for each in written:
                each.result()
        finally:
            model.shutdown(wait=True, cancel_futures=True)
            journal.add_denoised(carrier.denoised())
    return stretch.stop - first


STRETCHES: dict[str, Callable[[Work, Stretch], int]] = {
    "blend": lambda work, stretch: frames_blended(work, stretch.start, stretch.stop),
    "keys": frames_carried,
}


def timeline_of(work: Work) -> Timeline:
    """The shot's timeline, made once and kept beside the keys, with a picture of it; the notes say why."""
    journal, plan = work.journal, work.plan
    file = journal.keys / TIMELINE
    if file.is_file():
        return read_timeline(file)
    if work.ahead is not None:
        timeline = work.ahead.timeline
    else:
        timeline = make_timeline(work.shot, work.footage, reach=plan.key_every, forced=plan.key_frames)
    if work.footage.renamed:
        journal.add_notes(["ids change their numbers from frame to frame: depth alone tells what is seen"])
    keys = {key for stretch in timeline for key in stretch.keys if stretch.method == "keys"}
    journal.keep_keys(keys)
    write_strip(
        journal.keys / "timeline.png",
        [share for stretch in timeline for share in stretch.shown],
        [stretch.method == "keys" for stretch in timeline for _ in stretch.shown],
        keys,
        work.footage.engine,
    )
    journal.add_notes(list(_said(plan, timeline)))
    write_timeline(file, timeline)  # last: that it is there means that all of this was done
    return timeline


def _said(plan: Plan, timeline: Timeline) -> Iterator[str]:
    """By which method the stretches are made, and why: a line for each method."""
    for method in METHODS:
        stretches = [stretch for stretch in timeline if stretch.method == method]
        if not stretches:
            continue
        first = stretches[0]
        numbers = plan.frame_numbers[first.start], plan.frame_numbers[first.stop - 1]
        said = f"frames {numbers[0]} to {numbers[1]} by '{method}': {first.why}"
        if len(stretches) > 1:
            count = sum(stretch.stop - stretch.start for stretch in stretches)
            more = "one more" if len(stretches) == 2 else f"{len(stretches) - 1} more"
            said += f"; {more} between cuts likewise, {count} frames in all"
        yield said


def _todo(work: Work, start: int, stop: int) -> list[Group]:
    """The groups between two frames in which one is missing."""
    groups = work.plan.groups(work.stylist.most, start, stop)
    return work.journal.todo(groups)


def _styled(
    work: Work, groups: Sequence[Group], *, known: KnownFor = lambda a, b: None, hold: bool = False
) -> Iterator[tuple[int, UInt8Array]]:
    """The groups styled, in order; with `hold` each waits for what became of the one before."""
    with ThreadPoolExecutor(1) as reader:
        ahead = deque(reader.submit(work.inputs, *group) for group in groups[:1])
        for number, (start, stop) in enumerate(groups):
            inputs = ahead.popleft().result()
            ahead.extend(reader.submit(work.inputs, *group) for group in groups[number + 1 : number + 2])
            held = known(start, stop) if hold else None
            yield start, work.stylist.style(range(start, stop), inputs, known=held)


def _grainy(work: Work, start: int, frames: UInt8Array) -> UInt8Array:
    """Frames [T, H, W, 3] of a stretch that fell back, with the grain that its neighbours have by number."""
    grain = _grain_of(work)
    if grain is None:
        return frames
    seeds = [work.plan.seeds[t] + t for t in range(start, start + len(frames))]
    made = [with_grain(f.astype(np.float32), grain, seed=s) for f, s in zip(frames, seeds, strict=True)]
    return to_uint8(np.stack(made))


def _clean(work: Work, t: int) -> UInt8Array:
    """A frame from disk without the grain that `_grainy` put on it, which must not be carried along."""
    frame, grain = work.journal.read(t), _grain_of(work)
    if grain is None:
        return frame
    bare = np.zeros(frame.shape, np.float32)
    return to_uint8(frame.astype(np.float32) - with_grain(bare, grain, seed=work.plan.seeds[t] + t))


def _grain_of(work: Work) -> Grain | None:
    """The grain that a preset gives as a number; "auto" is none here: such frames have the model's own."""
    plan = work.plan
    return Grain(plan.grain) if plan.method == "keys" and plan.grain else None


def _held_back(work: Work, begin: int, start: int, stop: int) -> KnownPixels | None:
    """What the last frame before a group shows of its frames; None at the beginning."""
    if start == begin:
        return None
    before, parts = _clean(work, start - 1), []
    way: Step | None = None
    for t in range(start, stop):
        back = work.footage.back(t)
        way = back if way is None else chain(back, way)
        parts.append(_carried(work, before, start - 1, t, way))
    return KnownPixels(
        np.stack([part.pixels for part in parts]),
        np.stack([part.mask for part in parts]),
        until=work.plan.looks[start].blend_until,
    )


def _carried(work: Work, styled: UInt8Array, source: int, t: int, way: Step) -> Carried:
    return carry(
        styled,
        way.flow,
        visible=soften(way.seen),
        engine_now=work.footage.engine(t),
        engine_previous=work.footage.engine(source),
    )
