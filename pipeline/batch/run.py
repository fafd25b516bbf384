"""Render the shots of a batch: one after another here, or by a crew of workers; one failure stops no other.

Done is known by the digest in a shot's own output folder, so a batch that was interrupted is run again
and goes on. In this process, while the frames of one shot are made, the one before is encoded and recorded,
and the key frames of the next are looked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING

from pipeline.batch.ahead import Ahead
from pipeline.batch.foreman import Foreman
from pipeline.batch.jobs import Job, JobOutcome, Names, Settings
from pipeline.batch.report import Report
from pipeline.batch.tasks import Crew, Task, guarded, perform
from pipeline.hold import held
from pipeline.render import OnFrame, Segment

if TYPE_CHECKING:
    from pipeline.plan import Plan
    from pipeline.styling import Kept
    from pipeline.timeline import Foresight

Hire = Callable[[Settings], Crew]
OnEnd = Callable[[JobOutcome], None]


def run_batch(
    jobs: Sequence[Job],
    settings: Settings,
    *,
    hire: Hire | None = None,
    segment_frames: int = 0,
    on_frame: OnFrame | None = None,
    on_end: OnEnd | None = None,
) -> Iterator[JobOutcome]:
    """Render the jobs and yield each outcome; `settings.out/batch.json` tells how far it is.

    `on_end` hears of an outcome as soon as it is known, perhaps from another thread; it is yielded when the
    frames that are being made then are through.

    Without `hire` they are done one after another in this process, else by the crew that it gives;
    `segment_frames`: in pieces of so many frames where a shot's method allows it, 0: whole. Raises
    OutputError where another batch writes to the same folder, or where nothing can be written there.
    """
    with held(settings.out):
        report = Report(settings.out / "batch.json", jobs)

        def end(outcome: JobOutcome) -> None:
            report.add(outcome)
            if on_end is not None:
                on_end(outcome)

        try:
            if hire is None:
                yield from _here(jobs, settings, on_frame, end)
            else:
                yield from _by_crew(jobs, settings, hire, segment_frames, on_frame, end)
        finally:  # an interrupt comes through here too
            report.close()


def _by_crew(
    jobs: Sequence[Job],
    settings: Settings,
    hire: Hire,
    segment_frames: int,
    on_frame: OnFrame | None,
    on_end: OnEnd,
) -> Iterator[JobOutcome]:
    crew = hire(settings)
    try:
        foreman = Foreman(jobs, settings, crew, segment_frames=segment_frames, on_frame=on_frame)
        for outcome in foreman.run():
            on_end(outcome)
            yield outcome
    finally:
        crew.close()


def _here(
    jobs: Sequence[Job], settings: Settings, on_frame: OnFrame | None, on_end: OnEnd
) -> Iterator[JobOutcome]:
    names = Names()
    kept: Kept = {}
    with Ahead(settings) as ahead, Later() as later:
        for number, job in enumerate(jobs):

            def known(plan: Plan, after: Sequence[Job] = jobs[number + 1 : number + 2]) -> Foresight | None:
                found = ahead.take(plan)
                for each in after:
                    ahead.look(each)
                return found

            result = perform(
                Task(job), settings, kept, on_frame, names=names, ahead=known, finish=later.promise
            )
            assert not isinstance(result, Segment)
            yield from later.ended()
            outcome = result if isinstance(result, JobOutcome) else JobOutcome(job, result)
            later.keep(outcome, on_end)
        yield from later.ended(wait=True)


class Later:
    """What follows the last frame of a shot, done beside the next one; outcomes in the order of the jobs."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="later")
        self._promised: Callable[[], None] | None = None
        self._ending: deque[Future[JobOutcome]] = deque()

    def promise(self, work: Callable[[], None]) -> None:
        """There is more to do for the shot whose outcome is kept next."""
        self._promised = work

    def keep(self, outcome: JobOutcome, on_end: OnEnd) -> None:
        """An outcome so far: it is known when what was promised is done."""
        work, self._promised = self._promised, None

        def end() -> JobOutcome:
            done = outcome
            if work is not None and isinstance(failed := guarded(outcome.job, work), JobOutcome):
                done = failed
            on_end(done)
            return done

        self._ending.append(self._pool.submit(end))

    def ended(self, *, wait: bool = False) -> Iterator[JobOutcome]:
        """The outcomes that are known; with `wait` all."""
        while self._ending and (wait or self._ending[0].done()):
            yield self._ending.popleft().result()

    def __enter__(self) -> Later:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=error is not None)
