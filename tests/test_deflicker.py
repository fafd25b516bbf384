"""A film that was styled frame by frame is steadied with its shot's passes, and goes on where it stopped."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from small_shot import make_shot, passes

from pipeline.cli import main
from pipeline.deflicker import steady_video
from pipeline.errors import ShotError
from pipeline.image import read_png, write_png
from pipeline.output import encode_video
from pipeline.score import score_video
from pipeline.shot import FramePasses, Shot, write_shot
from pipeline.steady.picture import psnr

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


def test_blend_is_a_method_of_its_own(shot: Shot, styled: Path, tmp_path: Path) -> None:
    """Steadier than the flicker, other pixels than keys; changing the method makes the frames anew."""
    keys, blend = (steady_video(styled, shot, tmp_path / m, method=m) for m in ("keys", "blend"))
    films = [score_video(path, shot).means()["e_warp"] for path in (styled, blend.video)]
    assert films[0] is not None and films[1] is not None and films[1] < 0.2 * films[0]
    pair = [read_png(done.video.parent / "frames" / "steady.0009.png") for done in (keys, blend)]
    assert not np.array_equal(*pair)
    record = json.loads((blend.video.parent / "record.json").read_text())
    assert record["settings"]["method"] == "blend"
    again = steady_video(styled, shot, tmp_path / "keys", method="blend")
    assert again.num_made == NUM_FRAMES
    assert np.array_equal(read_png(again.video.parent / "frames" / "steady.0009.png"), pair[1])


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


def test_a_stopped_run_without_passes_goes_on_too(styled: Path, tmp_path: Path) -> None:
    plain = write_shot(tmp_path / "plain", [FramePasses(rgb=passes(NUM_FRAMES).rgb)], fps=Fraction(24))
    whole = steady_video(styled, plain, tmp_path / "whole")
    assert whole.motion == "estimated (DIS)"
    again = steady_video(styled, plain, tmp_path / "stopped")
    folder = again.video.parent
    (folder / "record.json").unlink()
    for path in sorted((folder / "frames").iterdir())[14:]:
        path.unlink()
    assert steady_video(styled, plain, tmp_path / "stopped").num_made == NUM_FRAMES - 14
    for path in sorted((folder / "frames").iterdir()):
        assert path.read_bytes() == (whole.video.parent / "frames" / path.name).read_bytes()


def test_the_rate_and_the_sound_belong_to_the_result(shot: Shot, styled: Path, tmp_path: Path) -> None:
    steady_video(styled, shot, tmp_path)
    other = steady_video(styled, replace(shot, fps=Fraction(30)), tmp_path)
    assert not other.skipped and other.num_made == 0  # the same frames in another video


def test_a_video_of_another_rate_is_refused(shot: Shot, tmp_path: Path) -> None:
    encode_video([passes(NUM_FRAMES).rgb], tmp_path / "styled.mp4", fps=Fraction(30))
    with pytest.raises(ShotError, match=r"30 frames/s.*24.*put fps = 30"):
        steady_video(tmp_path / "styled.mp4", shot, tmp_path)


def test_films_of_two_shots_do_not_meet(shot: Shot, styled: Path, tmp_path: Path) -> None:
    """lookdev's own frames always lie in a folder called `frames`."""
    other = make_shot(tmp_path / "other", num_frames=NUM_FRAMES)
    done = [steady_video(styled, each, tmp_path / "out").video for each in (shot, other)]
    assert [path.name for path in done] == ["wall_look_steady.mp4", "other_look_steady.mp4"]
    assert all(path.is_file() for path in done)


def test_another_size_than_the_shots(shot: Shot, tmp_path: Path) -> None:
    folder = tmp_path / "large"
    for t, frame in enumerate(passes(NUM_FRAMES).rgb.repeat(2, axis=1).repeat(2, axis=2)):
        write_png(folder / f"styled.{t + 1:04d}.png", frame)
    done = steady_video(folder, shot, tmp_path)
    first = read_png(done.video.parent / "frames" / "steady.0001.png")
    assert psnr(first, read_png(folder / "styled.0001.png")) > 35.0


def test_the_command(shot: Shot, styled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["steady", str(styled), "--shot", str(shot.root), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert f"{NUM_FRAMES} frames" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "was done already" in capsys.readouterr().out
    assert main(["steady", str(tmp_path / "nothing"), "--shot", str(shot.root)]) == 2
    assert "no such file" in capsys.readouterr().err
