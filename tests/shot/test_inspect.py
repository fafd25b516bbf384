"""`lookdev shot inspect`: what is found stands in the table; what is missing is listed, with exit code 2."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.errors import ShotError
from pipeline.shot.inspect import inspect_shot


def test_every_pass_has_a_row(shot_root: Path) -> None:
    rows = dict(inspect_shot(shot_root))
    assert rows["frames"] == "6 (7-12)" and rows["fps"] == "24000/1001 (23.976)"
    assert rows["duration"] == "0.250 s" and rows["sound"] == "none"
    passes = {what.removeprefix("pass ") for what in rows if what.startswith("pass ")}
    assert passes == {"rgb", "depth", "normal", "motion", "ids", "visible", "truth", "joints"}
    assert rows["pass depth"] == (
        "exr: depth/depth.0007.exr ... depth.0012.exr, no gaps, channels Z, read as linear"
    )
    assert "read as lookdev" in rows["pass motion"]


def test_an_assumed_rate_is_said(shot_root: Path, tmp_path: Path) -> None:
    shutil.copytree(shot_root / "rgb", tmp_path / "plain")
    assert dict(inspect_shot(tmp_path / "plain"))["fps"] == "24 (24.000), assumed: there is no shot.toml"


def test_gaps_are_listed_pass_by_pass(shot_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shot_root / "depth" / "depth.0009.exr").unlink()
    rows = inspect_shot(shot_root)
    assert dict(rows)["pass depth"] == "5 frames, 7-12, missing 9" and rows[-1][0] == "error"
    assert cli.main(["shot", "inspect", str(shot_root)]) == 2
    assert "missing 9" in capsys.readouterr().out


def test_names_with_spaces_quotes_and_brackets(shot_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = shot_root.rename(shot_root.with_name('it\'s a "shot" [red]ü'))
    (odd / "shot.toml").write_text('fps = "25"')
    assert cli.main(["shot", "inspect", str(odd)]) == 0
    assert "[red]ü" in capsys.readouterr().out


def test_nothing_to_list_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ShotError, match="the folder is empty"):
        inspect_shot(tmp_path)
