"""While the frames of one shot are made, the key frames of the next are looked for.

What is found is kept by the digest of the plan that it is for, so a shot that changes meanwhile is looked at
again. A fault here is passed over: the render meets it in its turn, and says so.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

from pipeline.batch.jobs import Job, Settings, prepare
from pipeline.errors import UserError
from pipeline.footage import Footage
from pipeline.journal import Journal
from pipeline.plan import Plan
from pipeline.timeline import Foresight, make_timeline

log = logging.getLogger(__name__)
T = TypeVar("T")


class _StoppedError(Exception):
    """The batch ends; nobody waits for what is looked for."""


class _Footage(Footage):
    """Footage that is read no further once `stop` is set."""

    stop: threading.Event

    def _once(self, kind: str, t: int, make: Callable[[], T]) -> T:
        if self.stop.is_set():
            raise _StoppedError
        return super()._once(kind, t, make)


class Ahead:
    """Looks at one job at a time in a thread of its own; a context, left without waiting for more."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._stop = threading.Event()
        self._looking: Future[tuple[str, Foresight] | None] | None = None

    def look(self, job: Job) -> None:
        """Begin with a job; what was found of the one before is let go."""
        self._looking = self._pool.submit(self._found, job)

    def take(self, plan: Plan) -> Foresight | None:
        """What was found for this very plan, once it is there, or nothing."""
        looking, self._looking = self._looking, None
        found = None if looking is None else looking.result()
        return found[1] if found is not None and found[0] == plan.digest else None

    def __enter__(self) -> Ahead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _found(self, job: Job) -> tuple[str, Foresight] | None:
        try:
            prepared = prepare(job, self._settings)
            shot, plan = prepared.shot, prepared.plan
            journal = Journal(self._settings.out / plan.shot, plan)
            if plan.method != "keys" or plan.estimates or journal.is_done() or journal.timeline():
                return None
            footage = _Footage(shot, width=plan.width, height=plan.height)
            footage.stop = self._stop
            timeline = make_timeline(shot, footage, reach=plan.key_every, forced=plan.key_frames)
            return plan.digest, Foresight(footage, timeline)
        except (UserError, OSError, _StoppedError) as error:
            log.debug("%s: not looked at ahead: %s", job.name, error)
            return None
