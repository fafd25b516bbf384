"""The spine of one shot: plan -> frames -> controls -> diffuse -> steady -> encode -> record.

Frames go to disk one by one, so a render that was stopped goes on at the first frame that is not there, with
the same bytes. How they are made is `methods`'.

`styling` is imported when frames are to be made, because it loads torch: to refuse a shot, or to find it
done, takes a second then, not twenty.
"""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.estimate import make_estimates
from pipeline.journal import Journal, held
from pipeline.output import (
    Record,
    VideoSettings,
    check_space,
    encode_video,
    input_digests,
    render_bytes,
    write_record,
)
from pipeline.plan import input_files, make_plan, model_files, plan_as_json
from pipeline.preset import Preset
from pipeline.shot import Shot

if TYPE_CHECKING:
    from pipeline.styling import Precision, Stylist

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
) -> RenderResult:
    """Restyle one shot into `out/<shot>/`; go on where an earlier run of the same plan stopped.

    `offline` forbids fetching what is not on this machine. `allow_partial` leaves out what of a LoRA has no
    place in the model, with a note; else it is refused before the first frame. Raises UserError, one line,
    before any weights are loaded where the preset or the shot cannot work.
    """
    plan = make_plan(shot, preset, precision=machine.precision, offline=offline, allow_partial=allow_partial)
    journal = Journal(out / plan.shot, plan)
    if journal.is_done():
        return _result(journal, num_rendered=0, seconds=0.0, skipped=True)
    needed = render_bytes(plan.num_frames, plan.height, plan.width, scale=plan.scale, crf=plan.crf)
    check_space(out, needed)
    with held(journal.folder):
        shot = make_estimates(
            shot, plan.estimates, fallback=out, device=machine.device, on_frame=on_frame or _silent
        )
        num_rendered, seconds = _make_frames(shot, journal, machine, offline, on_frame or _silent)
        settings = VideoSettings(crf=plan.crf, scale=plan.scale)
        encode_video(journal.read_all(), journal.video, fps=plan.fps, audio=shot.audio, settings=settings)
        _write_record(shot, journal)
    return _result(journal, num_rendered=num_rendered, seconds=seconds, skipped=False)


def _make_frames(
    shot: Shot, journal: Journal, machine: Machine, offline: bool, on_frame: OnFrame
) -> tuple[int, float]:
    """Every frame that is not there yet; returns their number and seconds."""
    plan = journal.plan
    if journal.is_complete():
        journal.begin()
        return 0, 0.0
    on_frame(plan.shot, 0, plan.num_frames)
    started = time.perf_counter()
    styling, methods = (importlib.import_module(f"pipeline.{name}") for name in ("styling", "methods"))
    stylist: Stylist = styling.load_stylist(plan, **dataclasses.asdict(machine), offline=offline)
    journal.begin()  # only now: what is there stays if the model cannot be loaded
    ready = time.perf_counter()
    try:
        num_rendered = methods.METHODS[plan.method](methods.Work(shot, stylist, journal, on_frame))
    finally:  # an interrupted run's frames stay, so its seconds count too
        seconds = time.perf_counter() - ready
        journal.add_seconds({"load": ready - started, "frames": seconds})
        journal.add_notes(stylist.notes)
        journal.tidy()
    return num_rendered, seconds


def _write_record(shot: Shot, journal: Journal) -> None:
    plan = journal.plan
    files = [*input_files(shot, plan), *(lora.path for lora in plan.loras)]
    files += [embedding.path for embedding in plan.embeddings]
    files += model_files(plan)
    record = Record(
        shot=plan.shot,
        digest=plan.digest,
        num_frames=plan.num_frames,
        fps=plan.fps,
        inputs=input_digests(files, base=shot.root),
        settings=plan_as_json(plan),
        outputs=(journal.video.name, journal.frames.name),
        seconds={name: round(value, 3) for name, value in journal.seconds().items()},
        notes=(*plan.notes, *journal.notes()),
        denoised=round(journal.denoised() / plan.num_frames, 4),
    )
    write_record(journal.record, record)


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
