"""A folder of shots: which there are, which preset each gets, and that one failure stops no other."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import pytest
from small_shot import make_preset, make_shot, passes

from pipeline import cli
from pipeline.batch import Job, Settings, default_preset, find_jobs, preset_for, run_batch
from pipeline.errors import PresetError, ShotError
from pipeline.output import encode_video
from pipeline.shot import open_shot


@pytest.fixture
def folder(tmp_path: Path, random_model: Path) -> Path:
    """Two shots and a video that work, an empty folder, and things that are no shots."""
    root = tmp_path / "shots"
    make_shot(root / "wall", num_frames=2)
    make_preset(root / "wall" / "preset.toml", random_model, method="blend")
    make_shot(root / "alley", num_frames=2)
    encode_video([passes(2).rgb], root / "clip.mp4", fps=Fraction(25))
    (root / "empty").mkdir()
    (root / ".hidden").mkdir()
    (root / "notes.txt").write_text("no shot")
    return root


def test_jobs_are_folders_and_videos_with_their_presets(folder: Path) -> None:
    jobs = find_jobs(folder, preset="other.toml")
    assert [job.name for job in jobs] == ["alley", "clip", "empty", "wall"]
    assert [str(job.preset) for job in jobs[:3]] == ["other.toml"] * 3
    assert jobs[3].preset == folder / "wall" / "preset.toml"


def test_a_folder_of_presets_stands_between_a_shot_s_own_and_the_fallback(folder: Path) -> None:
    presets = folder / "presets"
    presets.mkdir()
    for name in ("alley", "clip", "wall"):
        (presets / f"{name}.toml").write_text("")
    jobs = {job.name: job.preset for job in find_jobs(folder, preset="other.toml", presets=presets)}
    assert jobs == {
        "alley": presets / "alley.toml",
        "clip": presets / "clip.toml",
        "empty": "other.toml",
        "wall": folder / "wall" / "preset.toml",
    }
    with pytest.raises(PresetError, match=r"no such folder; expected one that holds <shot>\.toml"):
        find_jobs(folder, presets=folder / "none")


def test_a_preset_s_order(folder: Path) -> None:
    (folder / "clip.toml").write_text("")
    assert preset_for(folder / "clip.mp4", fallback="x") == folder / "clip.toml"
    assert preset_for(folder / "alley", fallback="x") == "x"
    assert preset_for(folder / "alley") is None
    assert default_preset(open_shot(folder / "alley")) == "mini_film"
    assert default_preset(open_shot(folder / "clip.mp4")) == "mini_video"
    shutil.rmtree(folder / "alley" / "depth")  # some passes are there: say what is missing, do not do without
    assert default_preset(open_shot(folder / "alley")) == "mini_film"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--set", "strenght=1"], "did you mean 'strength'?"),
        (["--preset", "mini_blnd"], "did you mean 'mini_blend'?"),
    ],
)
def test_what_no_shot_can_use_is_said_once(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], part: str
) -> None:
    assert cli.main(["batch", str(folder), "--out", str(tmp_path / "out"), *arguments]) == 2
    said = capsys.readouterr()
    assert (
        said.out == "" and said.err.startswith("error: ") and said.err.count("\n") == 1 and part in said.err
    )


def test_shots_that_all_fail_by_their_input_are_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shots" / "a").mkdir(parents=True)
    (tmp_path / "shots" / "b").mkdir()
    assert cli.main(["batch", str(tmp_path / "shots"), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert said.out.count("failed") == 2 and "2 of 2 shots failed" in said.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["batch.json"]


def test_the_output_folder_is_no_shot(folder: Path) -> None:
    assert [job.name for job in find_jobs(folder, skip=folder / "empty")] == ["alley", "clip", "wall"]


@pytest.mark.parametrize(("make", "part"), [(False, "no such folder"), (True, "holds no shot")])
def test_a_folder_without_shots(tmp_path: Path, make: bool, part: str) -> None:
    if make:
        (tmp_path / "f").mkdir()
    with pytest.raises(ShotError, match=part):
        find_jobs(tmp_path / "f")


def test_a_batch_goes_on_after_a_failure_and_skips_what_is_done(
    folder: Path, random_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    preset, out = make_preset(tmp_path / "p.toml", random_model), tmp_path / "out"
    command = ["batch", str(folder), "--preset", str(preset), "--out", str(out)]
    assert cli.main(command) == 1
    said = capsys.readouterr()
    assert said.out.count("rendered") == 3 and said.out.count("failed") == 1
    assert "1 of 4 shots failed" in said.err
    assert sorted(path.stem for path in out.glob("*/*.mp4")) == ["alley", "clip", "wall"]

    (folder / "empty").rmdir()
    assert cli.main(command) == 0
    assert capsys.readouterr().out.count("was done") == 3


def test_two_shots_of_one_name_do_not_share_a_folder(tmp_path: Path, random_model: Path) -> None:
    root = tmp_path / "shots"
    make_shot(root / "clip", num_frames=1)
    encode_video([passes(1).rgb], root / "clip.mp4", fps=Fraction(25))
    preset = make_preset(tmp_path / "p.toml", random_model)
    first, second = run_batch(find_jobs(root, preset=preset), Settings(tmp_path / "out"))
    assert first.result is not None and first.failure == ""
    assert second.result is None and "same name 'clip'" in second.failure


def test_a_fault_of_ours_is_one_shot_s_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_shot(tmp_path / "a", num_frames=1)

    def fail(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("x")

    monkeypatch.setattr("pipeline.batch.tasks.render_shot", fail)
    (outcome,) = run_batch([Job(tmp_path / "a", "mini_blend")], Settings(tmp_path / "out"))
    assert outcome.result is None and not outcome.bad_input and "internal error" in outcome.failure
    assert "ZeroDivisionError" in caplog.text
