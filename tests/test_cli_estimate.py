"""`lookdev shot estimate`, and what `inspect` then shows."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from small_shot import make_shot

from pipeline import cli

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Say:
    """Run `lookdev shot ...`: exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "300")

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        code = cli.main(["shot", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A folder of pictures alone."""
    whole = make_shot(tmp_path / "whole")
    shutil.copytree(whole.root / "rgb", tmp_path / "plain frames")
    return tmp_path / "plain frames"


def test_a_pass_is_made_shown_and_not_made_twice(plain: Path, say: Say) -> None:
    code, out, err = say("estimate", plain, "--pass", "motion")
    assert (code, err) == (0, "")
    assert sorted(line.split(",")[0] for line in out.splitlines()) == [
        "motion: estimated (DIS)",
        "visible: estimated (DIS)",
    ]
    (mark,) = (plain / ".lookdev").glob("dis-*/estimate.json")
    before = mark.stat().st_mtime_ns
    assert say("estimate", plain, "--pass", "visible", "--pass", "motion")[0] == 0
    assert mark.stat().st_mtime_ns == before
    code, out, _ = say("inspect", plain)
    assert code == 0 and "pass motion" in out and "estimated (DIS)" in out


def test_what_the_shot_has_is_left_alone(tmp_path: Path, say: Say) -> None:
    shot = make_shot(tmp_path / "wall")
    code, out, _ = say("estimate", shot.root, "--pass", "depth")
    assert (code, out) == (0, "depth: the shot has it (exr)\n")
    assert not (shot.root / ".lookdev").exists()


def test_no_weights_and_no_such_pass(
    plain: Path, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    code, _, err = say("estimate", plain, "--pass", "motion", "--motion", "raft")
    assert code == 2 and err.startswith("error: RAFT needs raft_large_C_T_SKHT_V2") and err.count("\n") == 1
    code, _, err = say("estimate", plain, "--pass", "rgb")
    assert code == 2 and "'rgb' is not one of motion, visible, depth, joints, normal" in err
