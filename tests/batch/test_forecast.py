"""The dry run: what is there, what is to be made, how long it takes, all without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_shot import make_preset, make_shot

from pipeline import cli
from pipeline.batch import Settings, find_jobs, forecast, run_batch


@pytest.fixture
def folder(tmp_path: Path, random_model: Path) -> Path:
    for name, num_frames in (("alley", 2), ("wall", 4)):
        make_shot(tmp_path / "shots" / name, num_frames=num_frames)
    make_preset(tmp_path / "p.toml", random_model)
    return tmp_path


def command(folder: Path, *more: str) -> list[str]:
    shots, preset, out = (str(folder / name) for name in ("shots", "p.toml", "out"))
    return ["batch", shots, "--preset", preset, "--out", out, *more]


def test_it_costs_nothing_and_leaves_nothing(folder: Path) -> None:
    program = (
        "import sys; from pipeline import cli; code = cli.main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    arguments = command(folder, "--dry-run", "--seconds-per-frame", "10")
    call = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 shots, 0 done, 6 frames to make, about 0:01:00" in done.stdout
    assert not (folder / "out").exists()


def test_without_a_record_or_a_rate_it_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(command(folder, "--dry-run")) == 0
    assert "6 frames to make; no record here tells how long a frame takes: give --seconds-per-frame" in (
        capsys.readouterr().out
    )


def test_time_comes_from_records_and_grows_with_the_work(folder: Path) -> None:
    """Half as many pixels and the same passes of the UNet take half as long; what is done takes none."""
    jobs, settings = find_jobs(folder / "shots", preset=folder / "p.toml"), Settings(folder / "out")
    list(run_batch(jobs[:1], settings))
    record = folder / "out" / "alley" / "record.json"
    data = json.loads(record.read_text())
    data["seconds"]["frames"] = 3.0
    record.write_text(json.dumps(data))
    (folder / "out" / "junk").mkdir()
    (folder / "out" / "junk" / "record.json").write_text("{}")
    done, whole = forecast(jobs, settings)
    assert (done.is_done, done.seconds, done.num_kept) == (True, 0.0, 2)
    assert (whole.is_done, whole.num_frames, whole.num_kept) == (False, 4, 0)
    assert whole.seconds == pytest.approx(6.0)  # twice as many frames
    half = Settings(folder / "out", overrides=("size=[64,32]",))
    assert list(forecast(jobs, half))[1].seconds == pytest.approx(3.0)
    # steps * strength: 3 of 5 run, twice for guidance, and the VAE counts 4.5; then 6 of 10
    double = Settings(folder / "out", overrides=("steps=10",))
    assert list(forecast(jobs, double))[1].seconds == pytest.approx(6.0 * (12 + 4.5) / (6 + 4.5))
    stated = list(forecast(jobs, settings, seconds_per_frame=2.0))[1]
    assert stated.seconds == 8.0


def test_frames_that_are_there_are_counted(folder: Path) -> None:
    jobs, settings = find_jobs(folder / "shots", preset=folder / "p.toml"), Settings(folder / "out")
    list(run_batch(jobs, settings))
    (folder / "out" / "wall" / "record.json").unlink()
    (folder / "out" / "wall" / "frames" / "styled.0002.png").unlink()
    wall = list(forecast(jobs, settings))[1]
    assert (wall.is_done, wall.num_frames, wall.num_kept) == (False, 4, 3)


def test_what_cannot_be_rendered_is_said_and_is_bad_input(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "shots" / "empty").mkdir()
    assert cli.main(command(folder, "--dry-run")) == 2
    said = capsys.readouterr().out
    assert "1 shots cannot be rendered" in said and "the folder is" in said
