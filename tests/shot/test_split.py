"""A film is cut where its picture changes at once, at the exact frames, and nothing of it is lost."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline import cli
from pipeline.shot import FramePasses, open_shot, read_frames, write_shot
from pipeline.shot.split import find_cuts, write_cuts
from pipeline.shot.video import ffmpeg_path

W, H = 96, 64
ROOMS = ("corridor_walk", "profile_turn", "two_shot")
STARTS = (0, 30, 55, 90)
FRAMES = 120
RATE = Fraction(24000, 1001)


def scene(number: int, t: int) -> np.ndarray:
    """A textured picture of its own hue that slides by a pixel a frame."""
    y, x = np.mgrid[:H, :W].astype(float)
    waves = [np.sin((x + t) / (3 + number) + k * number) * np.cos(y / (5 + k)) for k in range(3)]
    base = np.array([(200, 60, 40), (40, 90, 210), (60, 190, 80), (220, 210, 60)][number])
    return np.clip(base + 35 * np.stack(waves, axis=-1), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scenes, H.264 with B-frames and sound."""
    path = tmp_path_factory.mktemp("film") / "the film.mp4"
    number = [max(k for k, start in enumerate(STARTS) if t >= start) for t in range(FRAMES)]
    frames = np.stack([scene(number[t], t) for t in range(FRAMES)])
    command = [ffmpeg_path(), "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{W}x{H}"]
    command += ["-r", "24000/1001", "-i", "-", "-f", "lavfi", "-i", "sine=duration=5.005", "-c:a", "aac"]
    tags = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"
    command += ["-vf", f"scale=out_color_matrix=bt709,format=yuv420p,{tags}", "-bf", "3", "-g", "50"]
    subprocess.run([*command, str(path)], check=True, input=frames.tobytes())
    return path


def test_cuts_are_found_at_their_frames(film: Path) -> None:
    shot = open_shot(film)
    assert find_cuts(shot) == list(zip(STARTS, [*STARTS[1:], FRAMES], strict=True))
    assert find_cuts(shot, shortest=40) == [(0, 55), (55, FRAMES)]


def test_shots_hold_their_frames_exactly(film: Path, tmp_path: Path) -> None:
    shot = open_shot(film)
    cuts = list(write_cuts(shot, find_cuts(shot), tmp_path))
    assert [cut.path.name for cut in cuts] == [f"the film_00{k}.mov" for k in (1, 2, 3, 4)]
    for cut in cuts:
        piece = open_shot(cut.path)
        assert (
            piece.fps == RATE and piece.num_frames == cut.stop - cut.start and piece.colours == shot.colours
        )
        whole = read_frames(shot, cut.start, cut.stop)
        np.testing.assert_array_equal(read_frames(piece, 0, piece.num_frames), whole)
        assert piece.audio is not None
        assert abs(sound_seconds(cut.path) - piece.num_frames / float(RATE)) < 0.03


def sound_seconds(path: Path) -> float:
    command = [ffmpeg_path(), "-v", "error", "-i", str(path), "-map", "0:a:0", "-f", "s16le", "-ar", "48000"]
    data = subprocess.run([*command, "-ac", "1", "-"], check=True, capture_output=True).stdout
    return len(data) / 2 / 48000


def test_the_command_goes_on_where_it_stopped(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["shot", "split", str(film), "--out", str(tmp_path)]
    assert cli.main([*command, "--dry-run"]) == 0 and not list(tmp_path.iterdir())
    assert "frames 30-54: 1.04 s" in capsys.readouterr().out
    kept = tmp_path / "the film_002.mov"
    kept.write_bytes(b"done before")
    assert cli.main(command) == 0
    assert kept.read_bytes() == b"done before" and len(list(tmp_path.iterdir())) == 4


def test_a_film_without_cuts_and_a_folder(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipeline.image import write_png

    for t in range(12):
        write_png(tmp_path / "frames" / f"a.{t:04d}.png", scene(0, t))
    assert find_cuts(open_shot(tmp_path / "frames")) == [(0, 12)]
    assert cli.main(["shot", "split", str(tmp_path / "frames"), "--out", str(tmp_path / "out")]) == 2
    assert "not a video; expected a film to cut" in capsys.readouterr().err


def test_cuts_between_grey_renders(tmp_path: Path) -> None:
    """Hue and saturation stand still there, so that a cut changes a third of what it does in colour."""
    shots = [open_shot(Path(__file__).parents[2] / "samples" / "shots" / name) for name in ROOMS]
    frames = np.concatenate([read_frames(shot, 0, 16) for shot in shots])
    joined = write_shot(tmp_path / "joined", [FramePasses(rgb=frames)], fps=Fraction(24))
    assert find_cuts(joined) == [(0, 16), (16, 32), (32, 48)]
