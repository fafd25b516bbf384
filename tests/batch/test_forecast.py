"""The dry run: what is there, what is to be made, how long it takes, all without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_shot import make_preset, make_shot

from pipeline import cli
from pipeline.batch import Job, Settings, find_jobs, forecast, keyframes, run_batch
from pipeline.batch.jobs import prepare
from pipeline.journal import Journal


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
    assert 0.0 < data["seconds"]["model"] <= data["seconds"]["frames"]
    data["seconds"] |= {"frames": 3.0, "model": 2.0}
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
    assert list(forecast(jobs, double))[1].seconds == pytest.approx(4.0 * (12 + 4.5) / (6 + 4.5) + 2.0)
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
    assert "1 shot cannot be rendered" in said and "the folder is" in said


def keyed(root: Path, model: Path) -> tuple[list[Job], Settings]:
    """A shot that slides by a tenth of its width a frame, by method "keys"."""
    make_shot(root / "slides" / "slide", num_frames=16)
    preset = make_preset(root / "keys.toml", model, method="keys")
    return find_jobs(root / "slides", preset=preset), Settings(root / "out_keys")


def test_key_frames_are_those_that_the_render_takes(tmp_path: Path, random_model: Path) -> None:
    jobs, settings = keyed(tmp_path, random_model)
    (before,) = forecast(jobs, settings)
    assert before.keys is not None and before.keys.is_exact and before.keys.num_kept == 0
    assert before.seconds is None and not settings.out.exists()
    list(run_batch(jobs, settings))
    folder = settings.out / "slide"
    assert len(list((folder / "keys").glob("key.*.png"))) == before.keys.num_keys > 1
    record = json.loads((folder / "record.json").read_text())
    styled = before.keys.num_keys + before.keys.num_alone + before.keys.crops
    assert styled == pytest.approx(16 * record["denoised"], rel=0.3)

    (folder / "record.json").unlink()
    last = sorted((folder / "keys").glob("key.*.png"))[-1]
    last.unlink()
    (again,) = forecast(jobs, settings)
    assert again.keys is not None
    assert (again.keys.num_keys, again.keys.num_kept) == (before.keys.num_keys, before.keys.num_keys - 1)
    assert again.num_kept == 16 and again.seconds == 0.0


def test_time_by_keys_is_of_keys_and_of_what_carries_them(tmp_path: Path, random_model: Path) -> None:
    """Twice as many frames with as many keys again take twice both; without keys ahead only the carrying."""
    jobs, settings = keyed(tmp_path, random_model)
    list(run_batch(jobs, settings))
    path = settings.out / "slide" / "record.json"
    record = json.loads(path.read_text())
    record["seconds"] |= {"frames": 10.0, "model": 8.0}
    path.write_text(json.dumps(record))
    other = make_shot(tmp_path / "others" / "other", num_frames=16)
    (ahead,) = forecast(find_jobs(other.root.parent, preset=tmp_path / "keys.toml"), settings)
    assert ahead.keys is not None
    styled = ahead.keys.num_keys + ahead.keys.num_alone + ahead.keys.crops
    assert ahead.seconds == pytest.approx(8.0 * styled / (16 * record["denoised"]) + 2.0)


def test_a_long_shot_is_judged_by_its_beginning(
    tmp_path: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyframes, "CHUNK", 8)
    jobs, settings = keyed(tmp_path, random_model)
    prepared = prepare(jobs[0], settings)
    journal = Journal(settings.out / "slide", prepared.plan)
    whole = keyframes.key_frames(prepared.shot, prepared.plan, journal)
    part = keyframes.key_frames(prepared.shot, prepared.plan, journal, most_seconds=0.0)
    assert whole.is_exact and not part.is_exact
    assert part.num_keys == pytest.approx(whole.num_keys, abs=2)
