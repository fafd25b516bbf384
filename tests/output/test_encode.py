"""Encode, then decode by another door and compare: colours, counts, rates, sound, memory."""

from __future__ import annotations

import subprocess
import weakref
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import OutputError
from pipeline.image import UInt8Array
from pipeline.output import VideoSettings, encode_video
from pipeline.shot import open_shot, read_frames
from pipeline.shot.video import ffmpeg_path

CELL = 16
LEVELS = ((0, 64, 128, 200, 255), (0, 100, 180, 255), (0, 90, 255))


def patches() -> tuple[UInt8Array, UInt8Array]:
    """60 flat colours as one frame [96, 160, 3], and the colours [60, 3]."""
    grid = np.array(np.meshgrid(*LEVELS, indexing="ij")).reshape(3, -1).T.astype(np.uint8)  # [60, 3]
    frame = grid.reshape(6, 10, 3).repeat(CELL, axis=0).repeat(CELL, axis=1)
    return frame, grid


def inner(frames: np.ndarray) -> np.ndarray:
    """The middles of the patches of [T, 96, 160, C], averaged: [60, C]. Borders mix in 4:2:0."""
    cells = frames.astype(np.float64).reshape(-1, 6, CELL, 10, CELL, frames.shape[-1])
    return cells[:, :, 4:-4, :, 4:-4].mean(axis=(0, 2, 4)).reshape(60, -1)


def decode(path: Path, pixel_format: str) -> bytes:
    command = [ffmpeg_path(), "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", pixel_format, "-"]
    return subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL).stdout


def describe(path: Path) -> str:
    """What a player reads of the file."""
    command = [ffmpeg_path(), "-hide_banner", "-i", str(path)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    ).stderr


def sound(path: Path) -> np.ndarray:
    """The sound as float32 samples at 48 kHz, mono."""
    command = [ffmpeg_path(), "-v", "error", "-i", str(path), "-map", "0:a:0", "-ac", "1", "-ar", "48000"]
    result = subprocess.run([*command, "-f", "f32le", "-"], check=True, capture_output=True)
    return np.frombuffer(result.stdout, np.float32)


def make_sound(path: Path, seconds: float) -> Path:
    source = f"sine=frequency=440:sample_rate=48000:duration={seconds}"
    subprocess.run([ffmpeg_path(), "-v", "error", "-f", "lavfi", "-i", source, str(path)], check=True)
    return path


def test_colours_come_back(tmp_path: Path) -> None:
    frame, colours = patches()
    path = tmp_path / "flat.mp4"
    assert encode_video([frame[None].repeat(5, 0)], path, fps=Fraction(24)) == 5
    shot = open_shot(path)
    errors = np.abs(inner(read_frames(shot, 0, 5)) - colours)
    assert (
        errors.mean() <= 0.6 and errors.max() <= 2.0
    )  # 8-bit limited-range YCbCr rounds to about 1.5 levels


def test_the_matrix_is_bt709_in_pixels_and_in_tags(tmp_path: Path) -> None:
    """Luma and chroma against BT.709-6 item 3 (ITU-R), not against ffmpeg's own way back."""
    frame, colours = patches()
    path = tmp_path / "flat.mp4"
    encode_video([frame[None]], path, fps=Fraction(24), settings=VideoSettings(crf=1))
    height, width = frame.shape[:2]
    planes = (
        np.frombuffer(decode(path, "yuv444p"), np.uint8).reshape(1, 3, height, width).transpose(0, 2, 3, 1)
    )
    red, green, blue = (colours[:, i] / 255 for i in range(3))
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    expected = np.stack(
        [16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748], axis=-1
    )
    assert np.abs(inner(planes) - expected).max() <= 1.0  # rounding to 8 bits, and a little from crf 1
    assert "yuv420p(tv, bt709, progressive)" in describe(path)  # matrix, primaries and transfer agree


@pytest.mark.parametrize("fps", ["24", "24000/1001", "25", "30000/1001", "2997/125", "12", "60"])
def test_rate_and_count_are_exact(tmp_path: Path, fps: str) -> None:
    frames = np.zeros((11, 16, 16, 3), np.uint8)
    path = tmp_path / "a.mp4"
    assert encode_video([frames[:4], frames[4:5], frames[5:]], path, fps=Fraction(fps)) == 11
    shot = open_shot(path)
    assert (shot.fps, shot.num_frames) == (Fraction(fps), 11)


def test_frames_keep_their_order(tmp_path: Path) -> None:
    frames = np.zeros((40, 32, 32, 3), np.uint8)
    frames += (np.arange(40, dtype=np.uint8) * 6)[:, None, None, None]
    encode_video([frames], tmp_path / "a.mp4", fps=Fraction(24))
    means = read_frames(open_shot(tmp_path / "a.mp4"), 0, 40).mean(axis=(1, 2, 3))
    assert np.abs(means - np.arange(40) * 6).max() < 2  # levels are 6 apart


@pytest.mark.parametrize("size", [(33, 47), (33, 48), (34, 47), (1, 1)])
def test_odd_sizes_gain_an_edge(tmp_path: Path, size: tuple[int, int]) -> None:
    height, width = size
    frame = np.full((1, height, width, 3), (200, 100, 50), np.uint8)
    encode_video([frame], tmp_path / "a.mp4", fps=Fraction(24))
    shot = open_shot(tmp_path / "a.mp4")
    assert (shot.height, shot.width) == (height + height % 2, width + width % 2)
    assert np.abs(read_frames(shot, 0, 1).astype(int) - (200, 100, 50)).max() <= 3  # no black or green border


def test_tiny_frames_grow_only_when_asked(tmp_path: Path) -> None:
    frames = np.zeros((2, 16, 24, 3), np.uint8)
    encode_video([frames], tmp_path / "a.mp4", fps=Fraction(24))
    encode_video([frames], tmp_path / "b.mp4", fps=Fraction(24), settings=VideoSettings(scale=4))
    sizes = [(shot.height, shot.width) for shot in map(open_shot, (tmp_path / "a.mp4", tmp_path / "b.mp4"))]
    assert sizes == [(16, 24), (64, 96)]


def test_sound_is_kept_and_in_time(tmp_path: Path) -> None:
    frames = np.zeros((24, 16, 16, 3), np.uint8)
    source = tmp_path / "source.mp4"
    encode_video([frames], source, fps=Fraction(24), audio=make_sound(tmp_path / "long.wav", 1.5))
    assert open_shot(source).audio == source
    encode_video([frames], tmp_path / "result.mp4", fps=Fraction(24), audio=source)
    before, after = sound(source), sound(tmp_path / "result.mp4")
    assert abs(len(before) / 48000 - 1.0) < 0.03  # cut to the picture, within an AAC frame of 1024 samples
    shared = min(len(before), len(after))
    assert np.array_equal(before[:shared], after[:shared])  # AAC is copied, not encoded a second time
    tone = np.abs(np.fft.rfft(after[4800 : 4800 + 24000]))
    assert abs(int(tone.argmax()) * 2 - 440) <= 2  # half a second: bins of 2 Hz
    shot = open_shot(tmp_path / "result.mp4")
    assert (shot.num_frames, shot.fps) == (24, 24)


def test_short_sound_does_not_shorten_the_picture(tmp_path: Path) -> None:
    frames = np.zeros((24, 16, 16, 3), np.uint8)
    short = make_sound(tmp_path / "short.wav", 0.2)
    assert encode_video([frames], tmp_path / "a.mp4", fps=Fraction(24), audio=short) == 24
    assert open_shot(tmp_path / "a.mp4").num_frames == 24


def test_a_source_without_sound_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    silent = tmp_path / "silent.mp4"
    frames = np.zeros((2, 16, 16, 3), np.uint8)
    encode_video([frames], silent, fps=Fraction(24))
    with pytest.raises(OutputError, match=r"silent\.mp4: holds no sound"):
        encode_video([frames], tmp_path / "a.mp4", fps=Fraction(24), audio=silent)
    assert sorted(tmp_path.iterdir()) == [silent]


def test_memory_is_one_window(tmp_path: Path) -> None:
    made: list[weakref.ref[UInt8Array]] = []
    most = 0

    def windows() -> Iterator[UInt8Array]:
        nonlocal most
        for level in range(20):
            window = np.full((2, 32, 32, 3), level, np.uint8)
            made.append(weakref.ref(window))
            most = max(most, sum(ref() is not None for ref in made))
            yield window
            del window

    assert encode_video(windows(), tmp_path / "a.mp4", fps=Fraction(24)) == 40
    assert most <= 2  # the one being encoded and the one being made


def test_a_failing_source_leaves_the_old_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"the old video")

    def windows() -> Iterator[UInt8Array]:
        yield np.zeros((4, 16, 16, 3), np.uint8)
        raise RuntimeError("the render fell over")

    with pytest.raises(RuntimeError, match="fell over"):
        encode_video(windows(), path, fps=Fraction(24))
    assert path.read_bytes() == b"the old video" and list(tmp_path.iterdir()) == [path]


def test_windows_that_differ_are_the_callers_mistake(tmp_path: Path) -> None:
    one, other = np.zeros((2, 16, 16, 3), np.uint8), np.zeros((2, 16, 18, 3), np.uint8)
    for windows, words in (
        ([one, other], "expected one size"),
        ([], "no frames"),
        ([one.astype(np.float32)], "expected uint8"),
    ):
        with pytest.raises(ValueError, match=words):
            encode_video(windows, tmp_path / "a.mp4", fps=Fraction(24))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_held_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "held").write_text("a file where the folder should be")
    with pytest.raises(OutputError, match=r"held/a\.mp4: cannot be written"):
        encode_video([np.zeros((1, 16, 16, 3), np.uint8)], tmp_path / "held" / "a.mp4", fps=Fraction(24))
