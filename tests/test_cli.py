"""The command: help costs nothing, bad input is one red line and exit code 2."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from small_shot import make_shot

from pipeline import cli

HEAVY = ("torch", "numpy", "cv2", "diffusers", "transformers", "pydantic", "rich", "OpenEXR")


def test_help_is_light() -> None:
    code = (
        "import sys; from pipeline import cli; code = cli.main(['--help']);"
        f"print([name for name in {HEAVY} if name in sys.modules], code)"
    )
    # Processor time: on a machine of its own it is what the user waits, beside others' work it still holds.
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.stdout.splitlines()[-1] == "[] 0"
    assert min(seconds) <= 0.4
    for command in ("train", "render", "batch", "demo", "doctor"):
        assert command in done.stdout


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["render", "nowhere"], "nowhere"),
        (["render", "SHOT", "--preset", "mini_blnd"], "did you mean 'mini_blend'?"),
        (["render", "SHOT", "--set", "strenght=1"], "did you mean 'strength'?"),
        (["batch", "nowhere"], "no such folder"),
        (["train", "nowhere.toml"], "nowhere.toml"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    part: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    make_shot(tmp_path / "wall", num_frames=1)
    assert cli.main([str(tmp_path / "wall") if word == "SHOT" else word for word in arguments]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and part in said.err
    assert said.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["wall"]  # nothing was written


def test_a_refusal_loads_no_torch(tmp_path: Path) -> None:
    shot = make_shot(tmp_path / "wall", num_frames=1)
    (shot.root / "joints.json").unlink()
    code = (
        "import sys; from pipeline import cli; code = cli.main(sys.argv[1:]);"
        "print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules], code)"
    )
    command = [sys.executable, "-c", code, "render", str(shot.root), "--preset", "mini_blend"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.strip() == "[] 2"
    assert "has no joints, which pose control needs" in done.stderr


def test_a_wrong_command_line_is_exit_2_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rendr"]) == 2
    assert "No such command 'rendr'" in capsys.readouterr().err


def test_an_interrupt_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.batch.find_jobs", interrupt)
    assert cli.main(["batch", "x"]) == 130
    assert capsys.readouterr().err.strip() == "interrupted; run the same command to resume"


def test_notes_are_shown(tmp_path: Path, random_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from small_shot import make_preset

    shot = make_shot(tmp_path / "wall", num_frames=1)
    preset = make_preset(tmp_path / "p.toml", random_model)
    command = ["render", str(shot.root), "--preset", str(preset), "--out", str(tmp_path / "out")]
    assert cli.main([*command, "--set", "size=[60, 64]"]) == 0
    said = capsys.readouterr()
    assert "note: size 60x64 became 64x64" in said.err
    assert "wall.mp4: 1 frames, 1 rendered now" in said.out
    assert cli.main([*command, "--set", "size=[60, 64]"]) == 0
    assert "was done already" in capsys.readouterr().out
