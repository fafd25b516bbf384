"""Several workers: the bytes of one; one that dies costs nothing, one that always dies its shot."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from small_shot import make_preset, make_shot

from pipeline.batch import Settings, find_jobs, local, local_crew, run_batch
from pipeline.batch.cluster import needs
from pipeline.batch.foreman import MOST_TRIES, Foreman
from pipeline.batch.jobs import Job, JobOutcome
from pipeline.batch.local import LocalCrew, with_own_accelerator
from pipeline.batch.tasks import Died, Event, Finished, Progress, Task, perform
from pipeline.render import Machine

SHOTS = {"alley": 9, "hall": 3, "wall": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, random_model: Path) -> Path:
    """A long shot, a blended one and a short one, rendered in this process."""
    root = tmp_path_factory.mktemp("workers")
    for name, num_frames in SHOTS.items():
        make_shot(root / "shots" / name, num_frames=num_frames)
    make_preset(root / "p.toml", random_model)
    make_preset(root / "shots" / "hall" / "preset.toml", random_model, method="blend")
    assert all(outcome.result for outcome in run_batch(jobs(root), Settings(root / "truth")))
    return root


def jobs(folder: Path) -> list[Job]:
    return find_jobs(folder / "shots", preset=folder / "p.toml")


def results(out: Path) -> dict[str, bytes]:
    paths = [path for path in sorted(out.rglob("*")) if path.suffix in (".png", ".mp4")]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in paths}


@dataclass
class Crew:
    """Workers that work at once in this process, or die; a foreman cannot tell."""

    settings: Settings
    deaths: dict[str, int] = field(default_factory=dict)  # by shot: how often a worker dies over it
    size: int = 2
    given: list[Task] = field(default_factory=list)
    busy: list[Task] = field(default_factory=list)

    @property
    def num_busy(self) -> int:
        return len(self.busy)

    def give(self, task: Task) -> None:
        assert len(self.busy) < self.size
        self.given.append(task)
        self.busy.append(task)

    def events(self) -> list[Event]:
        task = self.busy.pop(0)
        name = task.job.name
        if self.deaths.get(name, 0) > 0:
            self.deaths[name] -= 1
            return [Died(task, "by signal 9")]
        said: list[Event] = []

        def on_frame(name: str, done: int, total: int) -> None:
            said.append(Progress(task, done, total))

        result = perform(task, self.settings, {}, on_frame)
        return [*said, Finished(task, result)]

    def pids(self) -> list[int]:
        return [os.getpid()] * self.size

    def close(self) -> None:
        self.busy.clear()


def test_a_long_shot_is_made_in_pieces_and_put_together(folder: Path, tmp_path: Path) -> None:
    crew, seen = Crew(Settings(tmp_path / "out")), []
    foreman = Foreman(
        jobs(folder), crew.settings, crew, segment_frames=4, on_frame=lambda *news: seen.append(news)
    )
    outcomes = list(foreman.run())
    spans = [(task.job.name, task.span) for task in crew.given]
    assert spans[:3] == [("alley", (0, 4)), ("alley", (4, 8)), ("alley", (8, 9))]
    assert sorted(name for name, span in spans if span is None) == ["alley", "hall", "wall"]
    assert results(tmp_path / "out") == results(folder / "truth")
    (alley,) = [outcome.result for outcome in outcomes if outcome.job.name == "alley"]
    assert alley is not None and (alley.num_frames, alley.num_rendered) == (9, 9) and alley.seconds > 0
    told = [done for name, done, total in seen if name == "alley" and total == 9]
    assert told == [4, 8, 9]


def test_frames_that_are_there_are_not_given_out_again(folder: Path, tmp_path: Path) -> None:
    settings = Settings(tmp_path / "out")
    list(run_batch(jobs(folder)[:1], settings))
    (tmp_path / "out" / "alley" / "record.json").unlink()
    (tmp_path / "out" / "alley" / "frames" / "styled.0006.png").unlink()
    crew = Crew(settings)
    (outcome,) = Foreman(jobs(folder)[:1], settings, crew, segment_frames=4).run()
    assert [task.span for task in crew.given] == [(4, 8), None]
    assert outcome.result is not None and outcome.result.num_rendered == 4


@pytest.mark.parametrize("segment_frames", [0, 4])
def test_a_task_whose_worker_died_is_given_to_another(
    folder: Path, tmp_path: Path, segment_frames: int
) -> None:
    settings = Settings(tmp_path / "out")
    crew = Crew(settings, deaths={"alley": MOST_TRIES - 1})
    outcomes = list(Foreman(jobs(folder), settings, crew, segment_frames=segment_frames).run())
    assert [outcome.failure for outcome in outcomes] == [""] * 3
    assert results(tmp_path / "out") == results(folder / "truth")


def test_a_shot_that_takes_every_worker_down_is_given_up(folder: Path, tmp_path: Path) -> None:
    settings = Settings(tmp_path / "out")
    crew = Crew(settings, deaths={"alley": 99})
    outcomes = list(Foreman(jobs(folder), settings, crew, segment_frames=4).run())
    assert len(outcomes) == 3
    (failed,) = [outcome for outcome in outcomes if outcome.result is None]
    assert failed.job.name == "alley" and not failed.bad_input
    assert "3 workers died over it, the last by signal 9; is there memory enough?" in failed.failure


def test_a_shot_that_changed_since_it_was_divided_is_refused(folder: Path, tmp_path: Path) -> None:
    task = Task(jobs(folder)[0], (0, 4), "the digest of another version")
    outcome = perform(task, Settings(tmp_path / "out"), {}, None)
    assert isinstance(outcome, JobOutcome) and "changed while it was rendered" in outcome.failure


def test_two_processes_give_the_bytes_of_one_and_one_that_is_killed_is_replaced(
    folder: Path, tmp_path: Path
) -> None:
    """SIGKILL to whoever reports the first frames of the long shot."""
    crews: list[LocalCrew] = []

    def hire(settings: Settings) -> LocalCrew:
        crew = local_crew(2)(settings)
        assert isinstance(crew, LocalCrew)
        crews.append(crew)
        return crew

    killed: list[int] = []

    def kill(name: str, done: int, total: int) -> None:
        if name == "alley" and not killed:
            killed.append(crews[0].pids()[0])
            os.kill(killed[0], signal.SIGKILL)

    run = run_batch(jobs(folder), Settings(tmp_path / "out"), hire=hire, segment_frames=4, on_frame=kill)
    outcomes = list(run)
    assert killed and [outcome.failure for outcome in outcomes] == [""] * 3
    assert results(tmp_path / "out") == results(folder / "truth")
    assert [path.name for path in (tmp_path / "out").rglob(".*")] == []
    assert not any(worker.process.is_alive() for worker in crews[0]._workers)


def test_each_worker_has_an_accelerator_of_its_own() -> None:
    """As far as there are enough; not where the user names a device, nor on a machine without one."""
    settings = Settings(Path("out"))
    devices = [with_own_accelerator(settings, number, 2).machine.device for number in range(4)]
    assert devices == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert with_own_accelerator(settings, 1, 0) is settings
    said = Settings(Path("out"), machine=Machine(device="cpu"))
    assert with_own_accelerator(said, 1, 2) is said


@pytest.mark.parametrize("shown", [0, 1, 4])
def test_there_is_a_worker_for_each_of_several_accelerators(
    shown: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/dev shows four; CUDA_VISIBLE_DEVICES, which torch goes by, may hide some."""
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter([Path(f"nvidia{n}") for n in range(4)]))
    monkeypatch.setattr(local, "num_accelerators", lambda: shown)
    assert local.default_workers() == max(1, shown)


@pytest.mark.parametrize(
    ("count", "resources", "expected"),
    [
        (2, {"CPU": 8.0}, {"num_cpus": 1.0, "num_gpus": 0.0}),
        (2, {"CPU": 8.0, "GPU": 2.0}, {"num_cpus": 1.0, "num_gpus": 1.0}),
        (3, {"CPU": 8.0, "GPU": 2.0}, {"num_cpus": 1.0, "num_gpus": 0.5}),
        (4, {"CPU": 2.0}, {"num_cpus": 0.5, "num_gpus": 0.0}),
    ],
)
def test_every_worker_finds_a_place_on_ray(
    count: int, resources: dict[str, float], expected: dict[str, float]
) -> None:
    assert needs(count, resources) == expected
