"""The command: help costs nothing, bad input is one red line and exit code 2."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_shot import make_shot

from pipeline import cli

HEAVY = ("torch", "numpy", "cv2", "diffusers", "transformers", "pydantic", "rich", "OpenEXR", "matplotlib")


def test_help_is_light() -> None:
    code = (
        "import sys; from pipeline import cli; code = cli.main(['--help']);"
        f"print([name for name in {HEAVY} if name in sys.modules], code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] 0"
    for command in ("train", "render", "batch", "demo", "doctor", "preset", "score", "steady"):
        assert command in done.stdout


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["render", "nowhere"], "nowhere"),
        (["render", "SHOT", "--preset", "mini_blnd"], "did you mean 'mini_blend'?"),
        (["render", "SHOT", "--set", "strenght=1"], "did you mean 'strength'?"),
        (["batch", "nowhere"], "no such folder"),
        (["train", "nowhere.toml"], "nowhere.toml"),
        (["render", "x" * 300], f"{'x' * 300}: File name too long; check the path"),
        (["render", "SHOT", "--set", "model=~nobody_here/m"], "--set model: "),
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


def test_a_bar_that_never_began_leaves_no_line() -> None:
    from rich.console import Console

    from pipeline.screen import frame_progress

    for is_terminal in (True, False):
        said = io.StringIO()
        with frame_progress(Console(file=said, force_terminal=is_terminal, force_interactive=is_terminal)):
            pass
        assert said.getvalue() == ""


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
    assert cli.main([*command, "--set", "size=[56, 64]"]) == 0
    said = capsys.readouterr()
    assert "note: the shot's 64x64 is stretched by 12 % to 56x64" in said.err
    assert "wall.mp4: 1 frames, 1 rendered now" in said.out
    assert cli.main([*command, "--set", "size=[60, 64]"]) == 2
    assert "takes multiples of 8: 64x64 is the nearest" in capsys.readouterr().err
    assert cli.main([*command, "--set", "size=[56, 64]"]) == 0
    assert "was done already" in capsys.readouterr().out
    assert cli.main([*command, "--set", "clip_skip=12"]) == 2  # found by the text encoder, in the work
    said = capsys.readouterr()
    assert said.err.startswith("error: clip_skip is 12") and said.err.count("\n") == 1


@pytest.mark.parametrize("command", ["render", "batch"])
def test_a_partial_lora_has_to_be_allowed(
    command: str, tmp_path: Path, random_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from small_shot import make_preset

    shots = tmp_path / "shots"
    make_shot(shots / "wall", num_frames=1)
    state = {}
    for layer in ("mid_block_attentions_0_proj_in", "no_such"):
        state[f"lora_unet_{layer}.lora_down.weight"] = torch.ones(1, 192, 1, 1)
        state[f"lora_unet_{layer}.lora_up.weight"] = torch.ones(192, 1, 1, 1)
    save_file(state, tmp_path / "l.safetensors")
    preset = make_preset(tmp_path / "p.toml", random_model, extra='[[lora]]\npath = "l.safetensors"')
    source = shots / "wall" if command == "render" else shots
    arguments = [command, str(source), "--preset", str(preset), "--out", str(tmp_path / "out")]
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    assert "lora_unet_no_such" in "".join((said.err + said.out).split())
    assert cli.main([*arguments, "--allow-partial"]) == 0
    assert "left out 1 of 2 modules: lora_unet_no_such" in capsys.readouterr().err


def test_a_line_break_in_a_name_is_still_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "a\nb"
    folder.mkdir()
    assert cli.main(["shot", "probe", str(folder)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
