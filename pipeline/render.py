"""The spine of one shot: plan -> frames -> controls -> diffuse -> steady -> encode -> record.

Frames go to disk one by one, so a render that was stopped goes on at the first frame that is not there, with
the same bytes. How they are made is `methods`'.

`styling` is imported when frames are to be made, because it loads torch: to refuse a shot, or to find it
done, takes a second then, not twenty.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.delivery import deliver
from pipeline.estimate import make_estimates
from pipeline.hold import held
from pipeline.journal import Journal
from pipeline.output import check_space, render_bytes
from pipeline.plan import Plan, make_plan, source_stamps
from pipeline.preset import Preset
from pipeline.shot import Shot

if TYPE_CHECKING:
    from pipeline.styling import Kept, Precision, Stylist
    from pipeline.timeline import Foresight

INDEPENDENT = frozenset({"frame"})  # methods whose frames need no other, so that workers can share a shot
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
    ahead: Callable[[Plan], Foresight | None] | None = None,
    finish: Callable[[Callable[[], None]], object] | None = None,
) -> RenderResult:
    """Restyle one shot into `out/<shot>/`; go on where an earlier run of the same plan stopped.

    `offline` forbids fetching what is not on this machine. `allow_partial` leaves out what of a LoRA has no
    place in the model, with a note; else it is refused before the first frame. `kept`, given from shot to
    shot, spares loading one model for each. `ahead` knows what was found out about a plan beforehand.
    `finish` may do what follows the last frame at another time; the folder is held until then. Raises
    UserError, one line, before any weights are loaded where the preset or the shot cannot work; ShotError
    also where a source file changed meanwhile.
    """
    plan = make_plan(shot, preset, precision=machine.precision, offline=offline, allow_partial=allow_partial)
    journal = Journal(out / plan.shot, plan)
    if journal.is_done():
        return _result(journal, num_rendered=0, seconds=0.0, skipped=True)
    sources = source_stamps(shot, plan)
    check_space(out, render_bytes(plan.num_frames, plan.height, plan.width, output=plan.output))
    with contextlib.ExitStack() as hold:
        hold.enter_context(held(journal.folder))
        shot = make_estimates(
            shot, plan.estimates, fallback=out, device=machine.device, on_frame=on_frame or _silent
        )
        load = _loading(plan, machine, offline, kept)
        known = None if ahead is None else ahead(plan)
        num_rendered, seconds = _make_frames(shot, journal, load, on_frame or _silent, known)
        rest = hold.pop_all()

        def complete() -> None:
            with rest:
                deliver(shot, preset, journal, sources)

        (finish or _now)(complete)
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
        methods = importlib.import_module("pipeline.methods")
        work = methods.Work(shot, stylist, journal, on_frame or _silent)
        num_rendered: int = methods.METHODS[plan.method](work)
        seconds = {
            "load": ready - started,
            "frames": time.perf_counter() - ready,
            "model": stylist.seconds,
        }
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
    shot: Shot, journal: Journal, load: Callable[[], Stylist], on_frame: OnFrame, ahead: Foresight | None
) -> tuple[int, float]:
    """Every frame that is not there yet; returns their number and seconds."""
    plan = journal.plan
    if journal.is_complete():
        journal.begin()
        return 0, 0.0
    on_frame(plan.shot, 0, plan.num_frames)
    started = time.perf_counter()
    stylist, methods = load(), importlib.import_module("pipeline.methods")
    journal.begin()  # only now: what is there stays if the model cannot be loaded
    journal.add_machine(stylist.machine)
    ready = time.perf_counter()
    try:
        num_rendered = methods.METHODS[plan.method](methods.Work(shot, stylist, journal, on_frame, ahead))
    finally:  # an interrupted run's frames stay, so its seconds count too
        seconds = time.perf_counter() - ready
        journal.add_seconds({"load": ready - started, "frames": seconds, "model": stylist.seconds})
        journal.add_notes(stylist.notes)
        journal.tidy()
    return num_rendered, seconds


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


def _now(work: Callable[[], None]) -> None:
    """For callers that wait for the end."""
    work()
