"""Workers on Ray: on this machine, or on all machines of a cluster that see the same folders.

A worker is a Ray actor with a model that stays. What is to be read and written travels as paths, so shots,
presets, models and the output folder must be at the same place on every machine (a network share).
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.batch.jobs import JobOutcome, Settings
from pipeline.batch.tasks import Crew, Died, Event, Finished, Progress, Task, perform
from pipeline.errors import UserError
from pipeline.render import RenderResult, Segment

if TYPE_CHECKING:
    from pipeline.styling import Kept

LOCAL = "local"
WAIT_SECONDS = 0.5
PASSED_ON = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "HF_HOME", "IMAGEIO_FFMPEG_EXE")


class Worker:
    """What runs as a Ray actor; two threads of it: one works, one tells how far it is."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._kept: Kept = {}
        self._lock = threading.Lock()
        self._progress: Progress | None = None

    def pid(self) -> int:
        """Its process."""
        return os.getpid()

    def perform(self, task: Task) -> RenderResult | Segment | JobOutcome:
        """Do a task."""

        def on_frame(name: str, done: int, total: int) -> None:
            with self._lock:
                self._progress = Progress(task, done, total)

        return perform(task, self._settings, self._kept, on_frame)

    def progress(self) -> Progress | None:
        """How far its task is."""
        with self._lock:
            return self._progress


def ray_crew(address: str, num_workers: int | None = None) -> Callable[[Settings], Crew]:
    """What hires workers on the Ray cluster at `address`, or "local": on this machine.

    `num_workers` absent: one for each accelerator of the cluster, else one for each of its machines. Raises
    UserError where Ray is not installed or the cluster does not answer.
    """
    try:
        ray = importlib.import_module("ray")
    except ImportError:
        raise UserError(
            "--ray: Ray is not installed; install it with: pip install 'lookdev[cluster]'"
        ) from None
    return lambda settings: RayCrew(ray, address, num_workers, settings)


def needs(count: int, resources: Mapping[str, float]) -> dict[str, float]:
    """What each of `count` workers asks Ray for: one of a kind, or such a part that all find a place.

    A worker that finds none would wait for ever, and its shot with it.
    """
    there = {"num_cpus": int(resources.get("CPU", 0)), "num_gpus": int(resources.get("GPU", 0))}
    return {name: 1.0 / math.ceil(count / number) if number else 0.0 for name, number in there.items()}


@dataclasses.dataclass
class _Hired:
    actor: Any
    task: Task | None = None
    answer: Any = None  # Ray's reference to what `perform` will return


class RayCrew:
    """Ray actors as a crew."""

    def __init__(self, ray: Any, address: str, num_workers: int | None, settings: Settings) -> None:
        self._ray, self._settings = ray, settings
        _connect(ray, address, num_workers)
        resources = ray.cluster_resources()
        machines = sum(1 for node in ray.nodes() if node.get("Alive"))
        count = num_workers or int(resources.get("GPU", 0)) or machines
        self._needs = needs(count, resources)
        self._workers = [self._hired() for _ in range(count)]

    @property
    def size(self) -> int:
        return len(self._workers)

    @property
    def num_busy(self) -> int:
        return sum(worker.task is not None for worker in self._workers)

    def pids(self) -> list[int]:
        """The workers' processes, on whichever machine, those at work first."""
        workers = sorted(self._workers, key=lambda worker: worker.task is None)
        return [int(pid) for pid in self._ray.get([worker.actor.pid.remote() for worker in workers])]

    def give(self, task: Task) -> None:
        worker = next(worker for worker in self._workers if worker.task is None)
        worker.task, worker.answer = task, worker.actor.perform.remote(task)

    def events(self) -> list[Event]:
        """What came back, who died, how far the others are, after at most half a second."""
        busy = [worker for worker in self._workers if worker.task is not None]
        if not busy:
            return []
        ready, _ = self._ray.wait([worker.answer for worker in busy], num_returns=1, timeout=WAIT_SECONDS)
        events: list[Event] = []
        for worker in busy:
            if worker.answer in ready:
                events.append(self._answered(worker))
            elif (progress := self._progress(worker)) is not None:
                events.append(progress)
        return events

    def close(self) -> None:
        for worker in self._workers:
            self._ray.kill(worker.actor)
        self._ray.shutdown()

    def _hired(self) -> _Hired:
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        actor = self._ray.remote(Worker).options(
            max_concurrency=2, runtime_env={"env_vars": passed}, **self._needs
        )
        return _Hired(actor.remote(self._settings))

    def _answered(self, worker: _Hired) -> Event:
        task, answer = worker.task, worker.answer
        assert task is not None
        worker.task = worker.answer = None
        try:
            return Finished(task, self._ray.get(answer))
        except self._ray.exceptions.RayActorError as error:
            self._workers[self._workers.index(worker)] = self._hired()
            return Died(task, f"({type(error).__name__})")

    def _progress(self, worker: _Hired) -> Progress | None:
        """Nothing from a worker that is still starting or that just died."""
        try:
            said = self._ray.get(worker.actor.progress.remote(), timeout=WAIT_SECONDS)
        except (self._ray.exceptions.GetTimeoutError, self._ray.exceptions.RayActorError):
            return None
        return said if isinstance(said, Progress) and said.task == worker.task else None


def _connect(ray: Any, address: str, num_workers: int | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # leave a worker's devices as they are
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report its use to its makers
    try:
        if address == LOCAL:
            ray.init(address=LOCAL, num_cpus=num_workers, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"--ray {address}: no Ray cluster answers there ({reason}); expected an address as in "
            f"10.0.0.5:6379, auto, or {LOCAL}"
        ) from None
