"""The spine of one shot: plan -> frames -> controls -> diffuse -> steady -> encode -> record.

`diffuse` knows models and no time, `steady` knows geometry and no models; here they meet. Frames go to
disk one by one, so a render that was stopped goes on at the first frame that is not there, with the same
bytes.

`styling` is imported when frames are to be made, because it loads torch: to refuse a shot, or to find it
done, takes a second then, not twenty.
"""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import diffuse
from pipeline.conform import frames_at, geometry_at
from pipeline.delivery import deliver
from pipeline.hold import held
from pipeline.image import UInt8Array
from pipeline.journal import Journal
from pipeline.output import check_space, render_bytes
from pipeline.plan import Plan, make_plan, source_stamps
from pipeline.preset import Preset
from pipeline.shot import Shot
from pipeline.steady import carry, finish, visible_backward

if TYPE_CHECKING:
    from pipeline.styling import Inputs, Kept, Precision, Stylist

OnFrame = Callable[[str, int, int], None]  # (shot's name, frames done, frames in all)


@dataclass(frozen=True)
class RenderResult:
    """Where a render is and what it took; `seconds` are those of the `num_rendered` frames made this time."""

    shot: str
    video: Path
    record: Path
    num_frames: int
    num_rendered: int
    seconds: float
    skipped: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Machine:
    """What a render computes on, and how; nothing of it is part of a plan.

    `device` is torch's name of one, None: the accelerator where there is one. `precision` is "fp32", "fp16",
    "bf16" or "auto" (fp16 on an accelerator, fp32 on a CPU). `compiled`: through torch.compile.
    """

    device: str | None = None
    precision: Precision = "auto"
    compiled: bool = False


def render_shot(
    shot: Shot,
    preset: Preset,
    out: Path,
    *,
    machine: Machine = Machine(),
    offline: bool = False,
    allow_partial: bool = False,
    on_frame: OnFrame | None = None,
    kept: Kept | None = None,
) -> RenderResult:
    """Restyle one shot into `out/<shot>/`; go on where an earlier run of the same plan stopped.

    `offline` forbids fetching what is not on this machine. `allow_partial` leaves out what of a LoRA has no
    place in the model, with a note; else it is refused before the first frame. `kept`, given from shot to
    shot, spares loading one model for each. Raises UserError, one line, before any weights are loaded where
    the preset or the shot cannot work; ShotError also where a source file changed meanwhile.
    """
    plan = make_plan(shot, preset, precision=machine.precision, offline=offline, allow_partial=allow_partial)
    journal = Journal(out / plan.shot, plan)
    if journal.is_done():
        return _result(journal, num_rendered=0, seconds=0.0, skipped=True)
    sources = source_stamps(shot, plan)
    check_space(out, render_bytes(plan.num_frames, plan.height, plan.width, output=plan.output))
    with held(journal.folder):
        load = _loading(plan, machine, offline, kept)
        num_rendered, seconds = _make_frames(shot, journal, load, on_frame or _silent)
        deliver(shot, preset, journal, sources)
    return _result(journal, num_rendered=num_rendered, seconds=seconds, skipped=False)


@dataclass(frozen=True)
class Segment:
    """Frames that one of several workers made: their number, seconds by stage, and what is to be recorded."""

    num_rendered: int
    seconds: Mapping[str, float]
    notes: tuple[str, ...]
    machine: str


def render_segment(
    shot: Shot,
    plan: Plan,
    out: Path,
    span: tuple[int, int],
    *,
    machine: Machine = Machine(),
    offline: bool = False,
    on_frame: OnFrame | None = None,
    kept: Kept | None = None,
) -> Segment:
    """Make the groups of frames that start in `span` and are not there, for a method whose frames are alone.

    The caller has begun the journal, writes what this returns into it, and has `render_shot` do the rest.
    """
    assert plan.method in INDEPENDENT
    journal = Journal(out / plan.shot, plan, span)
    with held(journal.folder, shared=True):
        started = time.perf_counter()
        stylist = _loading(plan, machine, offline, kept)()
        ready = time.perf_counter()
        num_rendered = METHODS[plan.method](shot, stylist, journal, on_frame or _silent)
        seconds = {"load": ready - started, "frames": time.perf_counter() - ready}
    return Segment(num_rendered, seconds, tuple(stylist.notes), stylist.machine)


def _loading(plan: Plan, machine: Machine, offline: bool, kept: Kept | None) -> Callable[[], Stylist]:
    def load() -> Stylist:
        styling = importlib.import_module("pipeline.styling")
        stylist: Stylist = styling.load_stylist(
            plan, **dataclasses.asdict(machine), offline=offline, kept=kept
        )
        return stylist

    return load


def _make_frames(
    shot: Shot, journal: Journal, load: Callable[[], Stylist], on_frame: OnFrame
) -> tuple[int, float]:
    """Every frame that is not there yet; returns their number and seconds."""
    plan = journal.plan
    if journal.is_complete():
        journal.begin()
        return 0, 0.0
    on_frame(plan.shot, 0, plan.num_frames)
    started = time.perf_counter()
    stylist = load()
    journal.begin()  # only now: what is there stays if the model cannot be loaded
    journal.add_machine(stylist.machine)
    ready = time.perf_counter()
    try:
        num_rendered = METHODS[plan.method](shot, stylist, journal, on_frame)
    finally:  # an interrupted run's frames stay, so its seconds count too
        seconds = time.perf_counter() - ready
        journal.add_seconds({"load": ready - started, "frames": seconds})
        journal.add_notes(stylist.notes)
        journal.tidy()
    return num_rendered, seconds


def _by_frame(shot: Shot, stylist: Stylist, journal: Journal, on_frame: OnFrame) -> int:
    """Each frame alone, in groups. A group with a frame missing is made again as a whole.

    While a group is computed, the next is read and the one before it written.
    """
    plan = journal.plan
    todo = journal.todo(plan.groups(stylist.most))
    done = plan.num_frames - sum(stop - start for start, stop in todo)
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        ahead = deque(reader.submit(_read, shot, plan, *group) for group in todo[:1])
        written: deque[tuple[int, Future[None]]] = deque()

        def settle() -> None:
            nonlocal done
            count, write = written.popleft()
            write.result()
            done += count
            on_frame(plan.shot, done, plan.num_frames)

        for number, (start, stop) in enumerate(todo):
            inputs = ahead.popleft().result()
            ahead.extend(reader.submit(_read, shot, plan, *group) for group in todo[number + 1 : number + 2])
            styled = stylist.style(start, inputs)
            if written:
                settle()
            written.append((stop - start, writer.submit(journal.write, start, styled)))
        while written:
            settle()
    return sum(stop - start for start, stop in todo)


def _by_blend(shot: Shot, stylist: Stylist, journal: Journal, on_frame: OnFrame) -> int:
    """Frame after frame, each leaning on the one before it, carried along the motion."""
    plan, num_rendered = journal.plan, 0
    for index in range(plan.num_frames):
        if not journal.has(index, index + 1):
            journal.write(index, _blended(shot, stylist, journal, index)[None])
            num_rendered += 1
        on_frame(plan.shot, index + 1, plan.num_frames)
    return num_rendered


METHODS: dict[str, Callable[[Shot, Stylist, Journal, OnFrame], int]] = {
    "frame": _by_frame,
    "blend": _by_blend,
}
INDEPENDENT = frozenset({"frame"})  # methods whose frames need no other, so that workers can share a shot


def _blended(shot: Shot, stylist: Stylist, journal: Journal, index: int) -> UInt8Array:
    """One frame [H, W, 3] from the render and the styled frame before it."""
    plan = journal.plan
    inputs = _read(shot, plan, index, index + 1)
    if index == 0:
        first: UInt8Array = stylist.style(0, inputs)[0]
        return first
    geometry = geometry_at(shot, index, width=plan.width, height=plan.height)
    visible = visible_backward(
        ids_now=geometry.ids[1],
        ids_previous=geometry.ids[0],
        depth_now=geometry.depth[1],
        depth_previous=geometry.depth[0],
        backward_flow=geometry.backward,
        visible=geometry.visible,
    )
    engine = frames_at(shot, index - 1, index + 1, width=plan.width, height=plan.height)
    carried = carry(
        journal.read(index - 1),
        geometry.backward,
        visible=visible,
        engine_now=engine[1],
        engine_previous=engine[0],
    )
    look = plan.looks[index]
    known = diffuse.KnownPixels(carried.pixels[None], carried.mask[None], until=look.blend_until)
    styled = stylist.style(index, inputs, known=known)[0]
    return finish(styled, carried, weight=look.blend_weight)


def _read(shot: Shot, plan: Plan, start: int, stop: int) -> Inputs:
    inputs: Inputs = importlib.import_module("pipeline.styling").read_inputs(shot, plan, start, stop)
    return inputs


def _result(journal: Journal, *, num_rendered: int, seconds: float, skipped: bool) -> RenderResult:
    plan = journal.plan
    return RenderResult(
        shot=plan.shot,
        video=journal.video,
        record=journal.record,
        num_frames=plan.num_frames,
        num_rendered=num_rendered,
        seconds=seconds,
        skipped=skipped,
        notes=(*plan.notes, *journal.notes()),
    )


def _silent(name: str, done: int, total: int) -> None:
    """For callers that watch no progress."""
