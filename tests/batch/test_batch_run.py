"""What a batch leaves: batch.json at any moment, one model for many shots, a night's mishaps."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from small_shot import make_preset, make_shot

from pipeline import cli, styling
from pipeline.batch import Job, JobOutcome, Settings, find_jobs, run_batch
from pipeline.errors import OutputError
from pipeline.hold import held
from pipeline.image import read_image, write_png
from pipeline.models import load_model


@pytest.fixture
def folder(tmp_path: Path, random_model: Path) -> Path:
    """Three shots of two frames, one of them blended."""
    for name in ("alley", "hall", "wall"):
        make_shot(tmp_path / "shots" / name, num_frames=2)
    make_preset(tmp_path / "p.toml", random_model)
    make_preset(tmp_path / "shots" / "hall" / "preset.toml", random_model, method="blend")
    return tmp_path


def jobs(folder: Path) -> list[Job]:
    return find_jobs(folder / "shots", preset=folder / "p.toml")


def render(folder: Path, out: str = "out", **options: object) -> list[JobOutcome]:
    return list(run_batch(jobs(folder), Settings(folder / out), **options))  # type: ignore[arg-type]


def report(folder: Path, out: str = "out") -> dict[str, object]:
    read: dict[str, object] = json.loads((folder / out / "batch.json").read_text())
    return read


def states(folder: Path) -> list[str]:
    return [row["state"] for row in report(folder)["shots"]]  # type: ignore[attr-defined]


def results(out: Path) -> dict[str, bytes]:
    paths = [path for path in sorted(out.rglob("*")) if path.suffix in (".png", ".mp4")]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in paths}


def test_one_model_serves_all_shots_with_the_same_bytes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []

    def load(*arguments: object, **options: object) -> object:
        loaded.append(arguments)
        return load_model(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(styling.models, "load_model", load)
    together = render(folder)
    assert [outcome.failure for outcome in together] == [""] * 3 and len(loaded) == 1
    for job in jobs(folder):
        list(run_batch([job], Settings(folder / "alone")))
    assert len(loaded) == 4
    assert results(folder / "out") == results(folder / "alone")


def test_another_model_takes_the_place_of_the_one_before(folder: Path, random_model: Path) -> None:
    """The same weights at another place, so that bytes can be compared and one model must go."""
    make_shot(folder / "shots" / "hall2", num_frames=2)
    shutil.copytree(random_model, folder / "model")
    make_preset(folder / "shots" / "hall2" / "preset.toml", folder / "model", method="blend")
    assert all(outcome.result for outcome in render(folder))
    frames = [
        [read_image(path).tobytes() for path in sorted((folder / "out" / name / "frames").iterdir())]
        for name in ("hall", "hall2")
    ]
    assert frames[0] == frames[1]


def test_the_report_tells_how_far_it_is(folder: Path) -> None:
    (folder / "shots" / "empty").mkdir()
    seen = []

    def look(outcome: JobOutcome) -> None:
        seen.append((report(folder)["state"], states(folder)))

    outcomes = list(run_batch(jobs(folder), Settings(folder / "out"), on_end=look))
    assert [outcome.job.name for outcome in outcomes] == ["alley", "empty", "hall", "wall"]
    assert len(seen) == 4 and seen[0] == ("running", ["rendered", "waiting", "waiting", "waiting"])
    assert report(folder)["state"] == "finished"
    assert states(folder) == ["rendered", "failed", "rendered", "rendered"]
    row = report(folder)["shots"][0]  # type: ignore[index]
    assert (row["frames"], row["rendered"], row["result"]) == (2, 2, str(folder / "out/alley/alley.mp4"))
    assert "the folder is empty" in report(folder)["shots"][1]["failure"]  # type: ignore[index]
    render(folder)
    assert states(folder) == ["was done", "failed", "was done", "was done"]


def test_an_interrupt_is_in_the_report_and_the_next_run_goes_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(name: str, done: int, total: int) -> None:
        if name == "hall":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render(folder, on_frame=stop)
    assert report(folder)["state"] == "interrupted" and states(folder) == ["rendered", "waiting", "waiting"]
    command = ["batch", str(folder / "shots"), "--preset", str(folder / "p.toml")]
    assert cli.main([*command, "--out", str(folder / "out")]) == 0
    said = capsys.readouterr().out
    assert said.count("was done") == 1 and said.count("rendered") == 2
    assert [path.name for path in (folder / "out").rglob(".*")] == []


def test_a_second_batch_on_the_same_folder_is_told_who_holds_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with held(folder / "out"):
        code = cli.main(["batch", str(folder / "shots"), "--out", str(folder / "out")])
    said = capsys.readouterr().err
    assert code == 2 and said.count("\n") == 1 and f"(process {os.getpid()} on " in said


def test_a_shot_that_another_render_holds_fails_alone(folder: Path) -> None:
    with held(folder / "out" / "hall"):
        outcomes = render(folder)
    assert [outcome.result is None for outcome in outcomes] == [False, True, False]
    assert f"process {os.getpid()} on" in outcomes[1].failure
    assert all(outcome.result for outcome in render(folder))


def test_a_disk_that_fills_up_stops_one_shot_and_keeps_what_is_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's own error, at the second frame of one shot."""
    write_bytes = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if "hall" in path.parts and "0002" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write_bytes(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        outcomes = render(folder)
    assert [outcome.result is None for outcome in outcomes] == [False, True, False]
    assert outcomes[1].bad_input and outcomes[1].failure.endswith(
        "hall/frames/styled.0002.png: the disk is full; free some space or choose another output folder"
    )
    kept = [path.name for path in (folder / "out" / "hall" / "frames").iterdir()]
    assert kept == ["styled.0001.png"]
    assert render(folder)[1].result.num_rendered == 1  # type: ignore[union-attr]


def test_a_report_that_cannot_be_written_costs_no_shot(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_bytes = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if "batch" in path.name and b'"waiting"' not in data[-80:]:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert all(outcome.result for outcome in render(folder))
    assert "batch.json: the disk is full" in caplog.text


def test_an_output_folder_that_cannot_be_written_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "file").write_text("x")
    out = folder / "file" / "out"
    assert cli.main(["batch", str(folder / "shots"), "--out", str(out)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "file/out: cannot be written" in said.err


def test_a_read_only_output_folder_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the system's own error: tests may run as root, whom no permission stops."""

    def refuse(path: Path, *arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OutputError, match="out: no permission to write there; choose another output folder"):
        render(folder)


def test_a_source_that_changes_costs_its_shot_and_no_other(folder: Path) -> None:
    picture = folder / "shots" / "alley" / "rgb" / "rgb.0002.png"

    def darken(name: str, done: int, total: int) -> None:
        if name == "alley" and done == 0:
            write_png(picture, read_image(picture) // 2)

    outcomes = render(folder, on_frame=darken)
    assert [outcome.result is None for outcome in outcomes] == [True, False, False]
    assert "rgb.0002.png: changed while the shot was rendered" in outcomes[0].failure
    assert "\n" not in outcomes[0].failure
    assert [outcome.result.skipped for outcome in render(folder) if outcome.result] == [False, True, True]
