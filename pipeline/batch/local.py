"""Workers on this machine: one process each, one accelerator each where there are some."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.batch.jobs import Settings
from pipeline.batch.tasks import Crew, Died, Event, Finished, Progress, Task, perform

if TYPE_CHECKING:
    from pipeline.styling import Kept

WAIT_SECONDS = 0.5
LEAVE_SECONDS = 5.0


def num_accelerators() -> int:
    """How many accelerators torch sees; it is loaded to be asked."""
    import torch

    return torch.cuda.device_count()


def default_workers() -> int:
    """One for each accelerator, where Linux shows several; torch is asked only then."""
    several = len(list(Path("/dev").glob("nvidia[0-9]*"))) > 1
    return max(1, num_accelerators()) if several else 1


def with_own_accelerator(settings: Settings, number: int, accelerators: int) -> Settings:
    """Worker `number`'s settings: an accelerator of its own, in turn; not where a device is named."""
    if settings.machine.device is not None or accelerators == 0:
        return settings
    machine = dataclasses.replace(settings.machine, device=f"cuda:{number % accelerators}")
    return dataclasses.replace(settings, machine=machine)


def local_crew(num_workers: int) -> Callable[[Settings], Crew]:
    """What hires `num_workers` on this machine."""
    return lambda settings: LocalCrew(num_workers, settings)


@dataclass
class _Worker:
    number: int
    process: BaseProcess
    pipe: Connection
    task: Task | None = None


class LocalCrew:
    """Processes of their own, started afresh, so that each has its own accelerator and its own memory."""

    def __init__(self, num_workers: int, settings: Settings) -> None:
        self._settings = settings
        self._workers = [self._hired(number) for number in range(num_workers)]

    @property
    def size(self) -> int:
        return len(self._workers)

    @property
    def num_busy(self) -> int:
        return sum(worker.task is not None for worker in self._workers)

    def pids(self) -> list[int]:
        """The workers' processes, those at work first."""
        workers = sorted(self._workers, key=lambda worker: worker.task is None)
        return [worker.process.pid for worker in workers if worker.process.pid is not None]

    def give(self, task: Task) -> None:
        worker = next(worker for worker in self._workers if worker.task is None)
        worker.task = task
        with contextlib.suppress(OSError):  # it died while idle; `events` sees that and says so
            worker.pipe.send(task)

    def events(self) -> list[Event]:
        """What workers said or how they died, after at most half a second."""
        ends = [end for worker in self._workers for end in (worker.pipe, worker.process.sentinel)]
        ready = wait(ends, timeout=WAIT_SECONDS)
        events: list[Event] = []
        for worker in [w for w in self._workers if w.pipe in ready or w.process.sentinel in ready]:
            said = _said(worker)
            events += said
            if not said and not worker.process.is_alive():
                events += self._replaced(worker)
        return events

    def close(self) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(LEAVE_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
            worker.pipe.close()

    def _hired(self, number: int) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self._settings, number), daemon=True)
        process.start()
        theirs.close()  # so that its end is seen when it dies
        return _Worker(number, process, ours)

    def _replaced(self, worker: _Worker) -> list[Event]:
        worker.process.join()
        worker.pipe.close()
        code = worker.process.exitcode or 0
        how = f"by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"with exit code {code}"
        self._workers[self._workers.index(worker)] = self._hired(worker.number)
        return [] if worker.task is None else [Died(worker.task, how)]


def _said(worker: _Worker) -> list[Event]:
    events: list[Event] = []
    try:
        while worker.pipe.poll():
            event = worker.pipe.recv()
            events.append(event)
            if isinstance(event, Finished):
                worker.task = None
    except (EOFError, OSError):  # it died, perhaps in the middle of a word
        pass
    return events


def _work(pipe: Connection, settings: Settings, number: int) -> None:
    """A worker's life: tasks come, events go, until the other end is closed or gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent then sends us away
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    settings = with_own_accelerator(settings, number, num_accelerators())
    kept: Kept = {}
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return

        def on_frame(name: str, done: int, total: int, task: Task = task) -> None:
            pipe.send(Progress(task, done, total))

        pipe.send(Finished(task, perform(task, settings, kept, on_frame)))


def _leave_with_parent() -> None:
    """A batch that was killed must not leave workers that go on and hold its folders."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
