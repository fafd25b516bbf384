"""`--skip-bad` and `--fill-gaps` through the whole line: the film is whole, the record says what is held."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_shot import CONTROLS, make_preset, make_shot

from pipeline import cli
from pipeline.image import read_image
from pipeline.shot import open_shot

NUM_FRAMES = 4


@pytest.fixture
def folder(tmp_path: Path, random_model: Path) -> Path:
    """A batch of one shot whose third picture is cut."""
    root = tmp_path / "shots" / "wall"
    shot = make_shot(root, num_frames=NUM_FRAMES)
    make_preset(root / "preset.toml", random_model, extra=CONTROLS, method="blend")
    picture = shot.passes["rgb"].files[2]
    picture.write_bytes(picture.read_bytes()[:100])
    return root


@pytest.mark.parametrize("command", ["render", "batch"])
def test_the_film_goes_on(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    what = str(folder if command == "render" else folder.parent)
    out = tmp_path / "out"
    assert cli.main([command, what, "--out", str(out), "--device", "cpu"]) == 2
    said = "".join("".join(capsys.readouterr()).replace("│", "").split())  # a table wraps its lines
    assert "rgb.0003.png:thefileiscutshort" in said and not (out / "wall" / "record.json").exists()
    assert cli.main([command, what, "--out", str(out), "--device", "cpu", "--skip-bad"]) == 0
    assert "rgb: frame 3 skipped" in capsys.readouterr().err
    record = json.loads((out / "wall" / "record.json").read_text())
    assert record["num_frames"] == NUM_FRAMES
    assert "rgb: frame 3 skipped" in record["notes"][0] and "frame 2 stands in" in record["notes"][0]
    assert len(list((out / "wall" / "frames").glob("*.png"))) == NUM_FRAMES
    assert open_shot(out / "wall" / "wall.mp4").num_frames == NUM_FRAMES
    frames = [read_image(out / "wall" / "frames" / f"styled.{n:04d}.png") for n in (2, 3)]
    assert np.abs(frames[0].astype(int) - frames[1]).mean() < 12  # the same picture, seed and look


def test_a_gap_is_filled(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "rgb" / "rgb.0003.png").unlink()
    command = ["render", str(folder), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert cli.main(command) == 2
    assert "1 of frames 1-4 missing: 3" in capsys.readouterr().err
    assert cli.main([*command, "--fill-gaps"]) == 0
    assert "rgb: frame 3 is missing; the frame before stands in" in capsys.readouterr().err
