"""What a batch is made of: tasks that one worker does at a time, what it says, how they are done."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from pipeline.batch.jobs import Job, JobOutcome, Names, Settings, opened, prepare
from pipeline.errors import ShotError, UserError
from pipeline.render import OnFrame, RenderResult, Segment, render_segment, render_shot

if TYPE_CHECKING:
    from pipeline.plan import Plan
    from pipeline.styling import Kept
    from pipeline.timeline import Foresight

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Task:
    """A whole shot, or with `span` those of its groups of frames that start in (start, stop).

    `digest`: of the plan that a span is of, so that a worker does not mix two versions of a shot.
    """

    job: Job
    span: tuple[int, int] | None = None
    digest: str = ""


@dataclass(frozen=True)
class Progress:
    """A worker has `done` of `total` frames of the shot; in a span, all others count as done."""

    task: Task
    done: int
    total: int


@dataclass(frozen=True)
class Finished:
    """A worker is through with a task."""

    task: Task
    result: RenderResult | Segment | JobOutcome


@dataclass(frozen=True)
class Died:
    """A worker died over a task; another one stands in its place."""

    task: Task
    how: str


Event = Progress | Finished | Died


class Crew(Protocol):
    """Workers that do one task each at a time, each with a model that stays from task to task."""

    @property
    def size(self) -> int:
        """How many there are."""

    @property
    def num_busy(self) -> int:
        """How many have a task."""

    def pids(self) -> list[int]:
        """The workers' processes, those at work first."""

    def give(self, task: Task) -> None:
        """Have an idle worker do this; there must be one."""

    def events(self) -> list[Event]:
        """What happened since the last call; waits a moment for the first."""

    def close(self) -> None:
        """Send all away, whatever they do."""


def perform(
    task: Task,
    settings: Settings,
    kept: Kept,
    on_frame: OnFrame | None = None,
    *,
    names: Names | None = None,
    ahead: Callable[[Plan], Foresight | None] | None = None,
    finish: Callable[[Callable[[], None]], object] | None = None,
) -> RenderResult | Segment | JobOutcome:
    """Do one task; what it fails by is its outcome.

    `on_frame` hears the job's name, not the shot's own. `names` are those that shots took before this one,
    where nobody else sees to that. `ahead`, `finish`: as `render_shot` takes them, for whole shots.
    """

    def tell(name: str, done: int, total: int) -> None:
        if on_frame is not None:
            on_frame(task.job.name, done, total)

    def work() -> RenderResult | Segment:
        if task.span is not None:
            return _part(task, settings, kept, tell)
        shot, preset = opened(task.job, settings)
        (names or Names()).take(shot.name, task.job)
        return render_shot(
            shot,
            preset,
            settings.out,
            machine=settings.machine,
            offline=settings.offline,
            allow_partial=settings.allow_partial,
            on_frame=tell,
            kept=kept,
            ahead=ahead,
            finish=finish,
        )

    return guarded(task.job, work)


def _part(task: Task, settings: Settings, kept: Kept, on_frame: OnFrame) -> Segment:
    assert task.span is not None
    prepared = prepare(task.job, settings)
    if prepared.plan.digest != task.digest:
        raise ShotError(
            f"{task.job.shot}: it, its preset or a model changed while it was rendered; expected one version "
            "from start to end: run the same command again"
        )
    return render_segment(
        prepared.shot,
        prepared.plan,
        settings.out,
        task.span,
        machine=settings.machine,
        offline=settings.offline,
        on_frame=on_frame,
        kept=kept,
    )


def guarded(job: Job, work: Callable[[], T]) -> T | JobOutcome:
    """What `work` returns, or the outcome of a job that failed in it."""
    try:
        return work()
    except UserError as error:
        return JobOutcome(job, None, str(error), bad_input=True)
    except PermissionError as error:
        said = f"{error.filename or job.shot}: {error.strerror}; check who may read it"
        return JobOutcome(job, None, said, bad_input=True)
    except Exception as error:  # a fault of ours in one shot must not cost the night's other shots
        log.exception("%s: failed", job.name)
        return JobOutcome(job, None, f"{job.shot}: internal error: {error!r}; see the traceback above")
