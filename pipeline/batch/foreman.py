"""Who does what: shots, and pieces of long ones, given to workers; a worker that dies costs no shot."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.batch.jobs import Job, JobOutcome, Names, Prepared, Settings, prepare
from pipeline.batch.tasks import Crew, Died, Event, Finished, Progress, Task, guarded
from pipeline.hold import held
from pipeline.journal import Journal
from pipeline.output import check_space, render_bytes
from pipeline.render import INDEPENDENT, OnFrame, RenderResult, Segment

MOST_TRIES = 3  # a task that takes its worker down so often would take down every other one too


@dataclass
class _Pieces:
    """A shot that is made in pieces: its journal, the pieces that are not done, what they brought."""

    journal: Journal
    missing: dict[Task, int]  # frames that each piece still lacks
    num_rendered: int = 0
    seconds: float = 0.0


@dataclass
class Foreman:
    """Gives the jobs to a crew, in order, until all have an outcome."""

    jobs: Sequence[Job]
    settings: Settings
    crew: Crew
    segment_frames: int = 0
    on_frame: OnFrame | None = None
    _names: Names = field(default_factory=Names)
    _queue: deque[Task] = field(default_factory=deque)
    _pieces: dict[Job, _Pieces] = field(default_factory=dict)
    _tries: dict[Task, int] = field(default_factory=dict)
    _failed: set[Job] = field(default_factory=set)

    def run(self) -> Iterator[JobOutcome]:
        """Each job's outcome as it comes."""
        waiting = deque(self.jobs)
        while waiting or self._queue or self.crew.num_busy:
            while self.crew.num_busy < self.crew.size and (self._queue or waiting):
                if self._queue:
                    self.crew.give(self._queue.popleft())
                elif (refused := self._open(waiting.popleft())) is not None:
                    yield refused
            for event in self.crew.events():
                outcome = self._take(event)
                if outcome is not None:
                    yield outcome

    def _open(self, job: Job) -> JobOutcome | None:
        """Queue a job's tasks, or say why it has none."""
        prepared = guarded(job, lambda: self._prepare(job))
        if isinstance(prepared, JobOutcome):
            return prepared
        tasks = guarded(job, lambda: self._tasks(prepared))
        if isinstance(tasks, JobOutcome):
            return tasks
        self._queue.extend(tasks)
        return None

    def _prepare(self, job: Job) -> Prepared:
        prepared = prepare(job, self.settings)
        self._names.take(prepared.shot.name, job)
        return prepared

    def _tasks(self, prepared: Prepared) -> list[Task]:
        """The pieces of a shot whose frames are alone, as far as they are not there; else the whole."""
        job, plan = prepared.job, prepared.plan
        whole, step = [Task(job)], self.segment_frames
        journal = Journal(self.settings.out / plan.shot, plan)
        apart = plan.method in INDEPENDENT and not plan.estimates  # a piece makes no estimates
        if not step or plan.num_frames <= step or not apart or journal.is_done():
            return whole
        needed = render_bytes(plan.num_frames, plan.height, plan.width, output=plan.output)
        check_space(self.settings.out, needed)
        with held(journal.folder):
            journal.begin()
        missing = {}
        for start in range(0, plan.num_frames, step):
            span = (start, min(start + step, plan.num_frames))
            lacking = sum(not journal.has(t, t + 1) for t in range(*span))
            if lacking:
                missing[Task(job, span, plan.digest)] = lacking
        if not missing:
            return whole
        self._pieces[job] = _Pieces(journal, missing)
        return list(missing)

    def _take(self, event: Event) -> JobOutcome | None:
        job = event.task.job
        if job in self._failed:  # another piece of it did
            return None
        if isinstance(event, Progress):
            self._show(event)
            return None
        if isinstance(event, Died):
            return self._try_again(event)
        return self._settle(event)

    def _settle(self, event: Finished) -> JobOutcome | None:
        job, result = event.task.job, event.result
        if isinstance(result, JobOutcome):
            return self._give_up(result)
        if isinstance(result, RenderResult):
            return JobOutcome(job, self._with_pieces(job, result))
        pieces = self._pieces[job]
        kept = guarded(job, lambda: _keep(pieces, result))
        if isinstance(kept, JobOutcome):
            return self._give_up(kept)
        del pieces.missing[event.task]
        if not pieces.missing:
            self._queue.appendleft(Task(job))  # finds all frames there, and makes the result of them
        return None

    def _try_again(self, event: Died) -> JobOutcome | None:
        tries = self._tries[event.task] = self._tries.get(event.task, 1) + 1
        if tries <= MOST_TRIES:
            self._queue.appendleft(event.task)
            return None
        said = f"{event.task.job.shot}: {MOST_TRIES} workers died over it, the last {event.how}"
        return self._give_up(JobOutcome(event.task.job, None, f"{said}; is there memory enough?"))

    def _give_up(self, outcome: JobOutcome) -> JobOutcome:
        self._failed.add(outcome.job)
        self._queue = deque(task for task in self._queue if task.job != outcome.job)
        return outcome

    def _show(self, event: Progress) -> None:
        if self.on_frame is None:
            return
        pieces, done, name = self._pieces.get(event.task.job), event.done, event.task.job.name
        if pieces is not None and event.task in pieces.missing:
            pieces.missing[event.task] = event.total - event.done
            done = event.total - sum(pieces.missing.values())
        self.on_frame(name, done, event.total)

    def _with_pieces(self, job: Job, result: RenderResult) -> RenderResult:
        pieces = self._pieces.pop(job, None)
        if pieces is None:
            return result
        return dataclasses.replace(
            result,
            num_rendered=result.num_rendered + pieces.num_rendered,
            seconds=result.seconds + pieces.seconds,
        )


def _keep(pieces: _Pieces, segment: Segment) -> None:
    """Write into the journal what a piece brought."""
    pieces.num_rendered += segment.num_rendered
    pieces.seconds += segment.seconds["frames"]
    pieces.journal.add_seconds(segment.seconds)
    pieces.journal.add_denoised(segment.num_rendered)
    pieces.journal.add_notes(segment.notes)
    pieces.journal.add_machine(segment.machine)
