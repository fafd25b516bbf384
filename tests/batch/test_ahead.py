"""The next shot's key frames are looked for beside this shot's frames: the same bytes, and nothing stale."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_shot import make_preset, make_shot

from pipeline import methods
from pipeline.batch import Job, Settings, find_jobs, run_batch
from pipeline.batch.ahead import Ahead
from pipeline.batch.jobs import prepare
from pipeline.render import render_shot


@pytest.fixture
def batch(tmp_path: Path, random_model: Path) -> tuple[list[Job], Settings]:
    for name in ("alley", "hall"):
        make_shot(tmp_path / "shots" / name, num_frames=9)
    preset = make_preset(tmp_path / "p.toml", random_model, method="keys")
    return find_jobs(tmp_path / "shots", preset=preset), Settings(tmp_path / "out")


def results(out: Path) -> dict[str, bytes]:
    paths = [path for path in sorted(out.rglob("*")) if path.suffix in (".png", ".mp4", ".html")]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in paths}


def test_only_the_first_shot_waits_for_its_key_frames(
    batch: tuple[list[Job], Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, settings = batch
    for job in jobs:
        prepared = prepare(job, settings)
        render_shot(prepared.shot, prepared.preset, tmp_path / "alone")
    made = []

    def make(shot: object, *arguments: object, **options: object) -> object:
        made.append(shot.name)  # type: ignore[attr-defined]
        return make_timeline(shot, *arguments, **options)  # type: ignore[arg-type]

    make_timeline = methods.make_timeline
    monkeypatch.setattr(methods, "make_timeline", make)
    outcomes = list(run_batch(jobs, settings))
    assert [outcome.failure for outcome in outcomes] == ["", ""] and made == ["alley"]
    found = results(settings.out)
    assert "hall/keys/timeline.png" in found and found == results(tmp_path / "alone")


def test_what_was_found_is_for_that_very_plan(batch: tuple[list[Job], Settings]) -> None:
    (job, other), settings = batch
    with Ahead(settings) as ahead:
        assert ahead.take(prepare(job, settings).plan) is None  # nothing was looked at
        ahead.look(job)
        assert ahead.take(prepare(other, settings).plan) is None
        ahead.look(job)
        found = ahead.take(prepare(job, settings).plan)
        assert found is not None and found.timeline[-1].stop == 9 and found.footage.shot.name == "alley"


def test_a_shot_that_cannot_be_looked_at_is_left_to_its_render(batch: tuple[list[Job], Settings]) -> None:
    (job, _), settings = batch
    plan = prepare(job, settings).plan
    for file in (job.shot / "motion").glob("*0005*"):
        file.write_bytes(b"damaged")
    with Ahead(settings) as ahead:
        ahead.look(job)
        assert ahead.take(plan) is None
