"""A film that was styled frame by frame is steadied with its shot's passes, and goes on where it stopped."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from small_shot import make_shot, passes

from pipeline import resteady
from pipeline.cli import main
from pipeline.errors import ShotError
from pipeline.image import read_png, write_png
from pipeline.resteady import steady_video
from pipeline.score import score_video
from pipeline.shot import Shot

NUM_FRAMES = 18


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> Shot:
    return make_shot(tmp_path_factory.mktemp("shots") / "wall", num_frames=NUM_FRAMES)


@pytest.fixture(scope="module")
def styled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wall, each frame in a colour of its own."""
    folder = tmp_path_factory.mktemp("styled") / "look"
    gains = 1.0 + 0.08 * np.random.default_rng(0).standard_normal((NUM_FRAMES, 1, 1, 3))
    frames = np.clip(passes(NUM_FRAMES).rgb * gains, 0, 255).astype(np.uint8)
    for t, frame in enumerate(frames):
        write_png(folder / f"styled.{t + 1:04d}.png", frame)
    return folder


def test_flicker_goes(shot: Shot, styled: Path, tmp_path: Path) -> None:
    done = steady_video(styled, shot, tmp_path)
    assert (done.num_frames, done.num_made, done.skipped) == (NUM_FRAMES, NUM_FRAMES, False)
    assert done.motion == "motion pass"
    before, after = (score_video(path, shot).means()["e_warp"] for path in (styled, done.video))
    assert before is not None and after is not None and after < 0.2 * before
    record = json.loads((done.video.parent / "record.json").read_text())
    assert record["settings"]["motion"] == "motion pass" and len(record["inputs"]) > NUM_FRAMES


def test_a_stopped_run_goes_on_to_the_same_bytes(shot: Shot, styled: Path, tmp_path: Path) -> None:
    whole = steady_video(styled, shot, tmp_path / "whole")

    def stop_at_ten(name: str, done: int, total: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        steady_video(styled, shot, tmp_path / "stopped", on_frame=stop_at_ten)
    gone_on = steady_video(styled, shot, tmp_path / "stopped")
    assert gone_on.num_made == NUM_FRAMES - 10
    for name in sorted(path.name for path in (whole.video.parent / "frames").iterdir()):
        one, other = (done.video.parent / "frames" / name for done in (whole, gone_on))
        assert one.read_bytes() == other.read_bytes()
    assert steady_video(styled, shot, tmp_path / "stopped").skipped


def test_another_film_of_the_same_name_is_made_anew(shot: Shot, styled: Path, tmp_path: Path) -> None:
    steady_video(styled, shot, tmp_path)
    other = tmp_path / "again" / styled.name
    for path in sorted(styled.iterdir()):
        write_png(other / path.name, 255 - read_png(path))
    done = steady_video(other, shot, tmp_path)
    assert done.num_made == NUM_FRAMES
    first = read_png(done.video.parent / "frames" / "steady.0001.png")
    assert np.abs(first.astype(int) - (255 - passes(NUM_FRAMES).rgb[0].astype(int))).mean() < 12


def test_a_film_of_another_shot_is_refused(shot: Shot, styled: Path, tmp_path: Path) -> None:
    short = tmp_path / "short"
    for path in itertools.islice(sorted(styled.iterdir()), 5):
        write_png(short / path.name, read_png(path))
    with pytest.raises(ShotError, match="has 5 frames"):
        steady_video(short, shot, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_window_of_frames_is_read_at_a_time(
    shot: Shot, styled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows do not show in what comes out."""
    whole = steady_video(styled, shot, tmp_path / "eight")
    monkeypatch.setattr(resteady, "WINDOW", 3)
    other = steady_video(styled, shot, tmp_path / "three")
    frames = [sorted((done.video.parent / "frames").iterdir()) for done in (whole, other)]
    assert all(one.read_bytes() == two.read_bytes() for one, two in zip(*frames, strict=True))


def test_the_command(shot: Shot, styled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["steady", str(styled), "--shot", str(shot.root), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert f"{NUM_FRAMES} frames" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "was done already" in capsys.readouterr().out
    assert main(["steady", str(tmp_path / "nothing"), "--shot", str(shot.root)]) == 2
    assert "no such file" in capsys.readouterr().err
