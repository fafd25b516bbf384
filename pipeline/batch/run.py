"""Render the shots of a batch: one after another here, or by a crew of workers; one failure stops no other.

Done is known by the digest in a shot's own output folder, so a batch that was interrupted is run again
and goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.batch.foreman import Foreman
from pipeline.batch.jobs import Job, JobOutcome, Names, Settings
from pipeline.batch.report import Report
from pipeline.batch.tasks import Crew, Task, perform
from pipeline.hold import held
from pipeline.render import OnFrame, Segment

if TYPE_CHECKING:
    from pipeline.styling import Kept

Hire = Callable[[Settings], Crew]


def run_batch(
    jobs: Sequence[Job],
    settings: Settings,
    *,
    hire: Hire | None = None,
    segment_frames: int = 0,
    on_frame: OnFrame | None = None,
) -> Iterator[JobOutcome]:
    """Render the jobs and yield each outcome as it comes; `settings.out/batch.json` tells how far it is.

    Without `hire` they are done one after another in this process, else by the crew that it gives;
    `segment_frames`: in pieces of so many frames where a shot's method allows it, 0: whole. Raises
    OutputError where another batch writes to the same folder, or where nothing can be written there.
    """
    with held(settings.out):
        report = Report(settings.out / "batch.json", jobs)
        try:
            for outcome in _outcomes(jobs, settings, hire, segment_frames, on_frame):
                report.add(outcome)
                yield outcome
        finally:  # an interrupt comes through here too
            report.close()


def _outcomes(
    jobs: Sequence[Job],
    settings: Settings,
    hire: Hire | None,
    segment_frames: int,
    on_frame: OnFrame | None,
) -> Iterator[JobOutcome]:
    if hire is None:
        yield from _here(jobs, settings, on_frame)
        return
    crew = hire(settings)
    try:
        yield from Foreman(jobs, settings, crew, segment_frames=segment_frames, on_frame=on_frame).run()
    finally:
        crew.close()


def _here(jobs: Sequence[Job], settings: Settings, on_frame: OnFrame | None) -> Iterator[JobOutcome]:
    names = Names()
    kept: Kept = {}
    for job in jobs:
        result = perform(Task(job), settings, kept, on_frame, names=names)
        assert not isinstance(result, Segment)
        yield result if isinstance(result, JobOutcome) else JobOutcome(job, result)
