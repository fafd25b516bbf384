"""Video files: exact counts, rates and windows, for the containers users send."""

from __future__ import annotations

import logging
import re
import subprocess
import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ShotError
from pipeline.shot import iterate_frames, open_shot, read_frames
from pipeline.shot.inspect import inspect_shot
from pipeline.shot.video import ffmpeg_path
from pipeline.shot.video_probe import frame_rate

W, H = 64, 48
LOSSLESS = ["-c:v", "libx264rgb", "-crf", "0", "-bf", "3", "-g", "12"]


def ffmpeg(*arguments: str | Path) -> None:
    command = [ffmpeg_path(), "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def make_video(path: Path, codec: list[str], *, rate: str = "24", num_frames: int = 40) -> Path:
    """A moving test card; frame number n is drawn by ffmpeg as a growing bar, so frames differ."""
    source = f"testsrc2=size={W}x{H}:rate={rate}"
    ffmpeg("-f", "lavfi", "-i", source, "-frames:v", str(num_frames), *codec, path)
    return path


def reference_frames(path: Path, num_frames: int) -> np.ndarray:
    """Every frame by one plain decode, uint8 RGB [T, H, W, 3]: the independent reference for windows."""
    command = [ffmpeg_path(), "-v", "error", "-i", str(path), "-fps_mode", "passthrough", "-f", "rawvideo"]
    command += ["-pix_fmt", "rgb24", "-"]
    data = subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL).stdout
    return np.frombuffer(data, np.uint8).reshape(num_frames, H, W, 3)


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        (".mp4", LOSSLESS),
        (".mkv", LOSSLESS),
        (".mov", ["-c:v", "libx264rgb", "-crf", "0", "-bf", "0"]),
        (".webm", ["-c:v", "libvpx-vp9", "-lossless", "1", "-pix_fmt", "gbrp", "-deadline", "realtime"]),
    ],
)
def test_any_window_is_the_same_frames(tmp_path: Path, suffix: str, codec: list[str]) -> None:
    path = make_video(tmp_path / f"clip{suffix}", codec)
    shot = open_shot(path)
    assert (shot.name, shot.num_frames, shot.width, shot.height) == ("clip", 40, W, H)
    assert shot.fps == 24 and set(shot.passes) == {"rgb"} and shot.audio is None
    assert open_shot(path, skip_bad=True) == shot  # nothing is wrong with it, so nothing is filled
    whole = reference_frames(path, 40)  # RGB inside, so decoding converts nothing and must be exact
    assert np.array_equal(np.concatenate(list(iterate_frames(shot, 7))), whole)
    for start, stop in ((0, 1), (1, 2), (11, 14), (23, 25), (39, 40)):  # around the key frames at 12, 24, 36
        assert np.array_equal(read_frames(shot, start, stop), whole[start:stop]), (start, stop)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize("rate", ["24000/1001", "25", "30000/1001", "60"])
def test_the_rate_is_exact(tmp_path: Path, suffix: str, rate: str) -> None:
    codec = ["-c:v", "libvpx-vp9" if suffix == ".webm" else "libx264", "-pix_fmt", "yuv420p"]
    speed = ["-deadline", "realtime"] if suffix == ".webm" else ["-preset", "ultrafast"]
    shot = open_shot(make_video(tmp_path / f"clip{suffix}", [*codec, *speed], rate=rate, num_frames=9))
    assert shot.fps == Fraction(rate) and shot.num_frames == 9


def test_rates_behind_rounded_times() -> None:
    ms = Fraction(1, 1000)
    film = [round(1000 * n * 1001 / 24000) for n in range(200)]
    assert frame_rate(film, ms, described=23.98, path=Path("x")) == Fraction(24000, 1001)
    assert frame_rate([0, 42], ms, described=23.98, path=Path("x")) == Fraction(24000, 1001)
    assert frame_rate([0, 42], ms, described=24.0, path=Path("x")) == 24
    assert frame_rate([5], ms, described=29.97, path=Path("x")) == Fraction(30000, 1001)
    # a rate that is nearly, but not, 24000/1001, in ticks fine enough to tell
    fine = [500 * n for n in range(50)]
    assert frame_rate(fine, Fraction(1, 11988), described=23.98, path=Path("x")) == Fraction(2997, 125)


def make_uneven(path: Path) -> Path:
    """Ten frames at 24 a second, of which the later five are shown twice as long."""
    times = "setpts='if(lt(N,5),N,N*2-5)/24/TB'"
    source = ["-f", "lavfi", "-i", f"testsrc2=size={W}x{H}:rate=24", "-frames:v", "10", "-vf", times]
    ffmpeg(*source, "-fps_mode", "vfr", *LOSSLESS, path)
    return path


def test_a_variable_rate_is_said(tmp_path: Path) -> None:
    path = make_uneven(tmp_path / "phone.mp4")
    shot = open_shot(path)
    assert shot.num_frames == 10 and shot.fps == Fraction(9 * 24, 13).limit_denominator(1001)
    assert "phone.mp4: frames are unevenly spaced (42 to 83 ms); each is used once" in shot.notes[0]
    assert "take --fill-gaps to hold each until the next is due, at 24" in shot.notes[0]


def test_a_variable_rate_held_on_even_frames(tmp_path: Path) -> None:
    path = make_uneven(tmp_path / "phone.mp4")
    shot = open_shot(path, fill_gaps=True)
    whole = reference_frames(path, 10)
    shown = [0, 1, 2, 3, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9]  # at k / 24 s, the last frame that has begun
    assert shot.fps == 24 and shot.num_frames == 14 and "each is held until the next" in shot.notes[0]
    assert np.array_equal(np.concatenate(list(iterate_frames(shot, 4))), whole[shown])
    for start, stop in ((5, 7), (6, 7), (13, 14)):
        assert np.array_equal(read_frames(shot, start, stop), whole[shown[start:stop]])


def test_one_time_stamp_is_no_video() -> None:
    with pytest.raises(ShotError, match="all 3 frames have one time stamp"):
        frame_rate([0, 0, 0], Fraction(1, 1000), described=None, path=Path("x.mp4"))


def test_gif(tmp_path: Path) -> None:
    shot = open_shot(make_video(tmp_path / "clip.gif", [], num_frames=12))
    assert (shot.fps, shot.num_frames, shot.width) == (24, 12, W)  # its ticks are 10 ms
    assert np.array_equal(read_frames(shot, 5, 7), reference_frames(tmp_path / "clip.gif", 12)[5:7])


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        (".mov", ["-c:v", "prores_ks", "-profile:v", "4444", "-pix_fmt", "yuva444p10le"]),
        (".mov", ["-c:v", "qtrle", "-pix_fmt", "argb"]),
        (".webm", ["-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p"]),
    ],
)
def test_see_through_videos_are_over_black(tmp_path: Path, suffix: str, codec: list[str]) -> None:
    path = tmp_path / f"cut_out{suffix}"
    source = f"color=0xC86432@0.5:size={W}x{H}:rate=24,format=rgba"
    ffmpeg("-f", "lavfi", "-i", source, "-frames:v", "3", *codec, path)
    shot = open_shot(path)
    assert shot.passes["rgb"].video is not None and shot.passes["rgb"].video.alpha
    assert np.abs(read_frames(shot, 0, 3).astype(int) - [100, 50, 25]).max() <= 3  # half of 200 100 50


def test_colour_tags_are_read(tmp_path: Path) -> None:
    tags = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"
    tagged = make_video(tmp_path / "a.mp4", ["-vf", tags, "-pix_fmt", "yuv420p"], num_frames=3)
    plain = make_video(tmp_path / "b.mp4", ["-pix_fmt", "yuv420p"], num_frames=3)
    assert dict(inspect_shot(tagged))["colours"] == "tv, bt709"
    assert dict(inspect_shot(plain))["colours"] == "not tagged, read as bt601"
    hdr = tags.replace("color_trc=bt709", "color_trc=smpte2084")
    bright = open_shot(make_video(tmp_path / "c.mp4", ["-vf", hdr, "-pix_fmt", "yuv420p"], num_frames=3))
    assert "c.mp4: is HDR" in bright.notes[0]


def test_sound_is_found(tmp_path: Path) -> None:
    path = tmp_path / "talk.mp4"
    ffmpeg("-f", "lavfi", "-i", f"testsrc2=size={W}x{H}:rate=24:duration=0.5", "-f", "lavfi", "-i",
           "sine=duration=0.5", "-c:a", "aac", path)  # fmt: skip
    assert open_shot(path).audio == path


@pytest.mark.parametrize(("tag", "matrix"), [("bt709", "bt709"), ("smpte170m", "bt601"), (None, "bt601")])
def test_colours_decode_by_the_matrix_of_the_file(tmp_path: Path, tag: str | None, matrix: str) -> None:
    """A flat colour written with a known matrix comes back as it was; untagged and small means BT.601."""
    colour = np.array([200, 60, 30], np.uint8)
    raw = tmp_path / "flat.rgb"
    raw.write_bytes(np.tile(colour, (3, H, W, 1)).tobytes())
    tags = f",setparams=colorspace={tag or 'unknown'}"
    convert = f"scale=out_color_matrix={matrix},format=yuv420p{tags}"
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{W}x{H}", "-r", "24", "-i", raw]
    ffmpeg(*source, "-vf", convert, "-crf", "1", tmp_path / "flat.mp4")
    shot = open_shot(tmp_path / "flat.mp4")
    error = np.abs(read_frames(shot, 0, 3).astype(int) - colour).max()
    assert error <= 3  # 8-bit YCbCr rounds to about 1.5 levels; the wrong matrix is off by more than 10


def test_memory_is_one_window(tmp_path: Path) -> None:
    path = make_video(tmp_path / "long.mp4", ["-c:v", "libx264", "-preset", "ultrafast"], num_frames=200)
    shot = open_shot(path)
    window_bytes = 4 * H * W * 3
    for _ in iterate_frames(shot, 4, stop=4):  # imports and caches are not what is measured
        pass
    tracemalloc.start()
    try:
        base = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        count = sum(window.shape[0] for window in iterate_frames(shot, 4))
        peak = tracemalloc.get_traced_memory()[1] - base
    finally:
        tracemalloc.stop()
    assert count == 200
    assert peak < 3 * window_bytes + 50_000  # one being filled, one handed out; the whole is 50 windows


def test_a_reader_that_stops_early_leaves_no_process(tmp_path: Path) -> None:
    import psutil

    shot = open_shot(make_video(tmp_path / "clip.mp4", LOSSLESS))
    before = set(psutil.Process().children())  # such as multiprocessing's tracker, from other tests
    frames = iterate_frames(shot, 1)
    next(frames)
    assert len(set(psutil.Process().children()) - before) == 1
    frames.close()  # type: ignore[attr-defined]
    assert set(psutil.Process().children()) - before == set()


def test_broken_videos_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("this is no video")
    (tmp_path / "empty.mp4").write_bytes(b"")
    sound = tmp_path / "sound.mp4"
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.2", "-c:a", "aac", sound)
    good = make_video(tmp_path / "good.mp4", LOSSLESS)
    (tmp_path / "cut.mp4").write_bytes(
        good.read_bytes()[: good.stat().st_size // 2]
    )  # its index is at the end
    for name in ("text", "empty", "sound", "cut"):
        with pytest.raises(
            ShotError, match=rf"{name}\.mp4: (not a readable video|holds sound and no video)"
        ) as caught:
            open_shot(tmp_path / f"{name}.mp4")
        assert "\n" not in str(caught.value)


def test_a_file_with_fewer_frames_than_it_lists(tmp_path: Path) -> None:
    """The index at the front promises 40 frames and the data is cut: no silent 24-frame shot."""
    path = make_video(tmp_path / "clip.mp4", [*LOSSLESS, "-movflags", "+faststart"])
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.6)])
    with pytest.raises(ShotError, match=r"clip\.mp4: the file is cut short"):
        open_shot(path)


def test_a_file_that_shrank_after_opening(tmp_path: Path) -> None:
    path = make_video(tmp_path / "clip.mkv", LOSSLESS)
    shot = open_shot(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ShotError, match=r"clip\.mkv: frames 0-39 of 40 cannot be decoded"):
        read_frames(shot, 0, 40)
    assert read_frames(shot, 0, 5).shape[0] == 5


def test_a_cut_video_with_skip_bad_ends_where_it_can(tmp_path: Path) -> None:
    path = make_video(tmp_path / "clip.mp4", [*LOSSLESS, "-movflags", "+faststart"])
    whole = reference_frames(path, 40)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.6)])
    shot = open_shot(path, skip_bad=True)
    assert 5 < shot.num_frames < 40
    assert "clip.mp4: the file is cut short; what it still holds is used" in shot.notes[0]
    assert np.array_equal(read_frames(shot, 0, shot.num_frames - 1), whole[: shot.num_frames - 1])


def test_frames_that_cannot_be_decoded_are_held(tmp_path: Path) -> None:
    """A film of JPEGs, the seventh of which is wiped: the one before stands in, the rest stay in place."""
    path = make_video(tmp_path / "clip.mkv", ["-c:v", "mjpeg", "-q:v", "2"], num_frames=12)
    whole = read_frames(open_shot(path), 0, 12)
    data = bytearray(path.read_bytes())
    starts = [match.start() for match in re.finditer(b"\xff\xd8\xff", bytes(data))]
    assert len(starts) == 12
    data[starts[6] : starts[7] - 20] = bytes(
        starts[7] - 20 - starts[6]
    )  # what follows is the next one's head
    path.write_bytes(data)
    shot = open_shot(path, skip_bad=True)
    assert shot.notes == ("rgb: frames 6 skipped: cannot be decoded; the one before stands in",)
    frames = read_frames(shot, 0, 12)
    assert shot.num_frames == 12 and np.array_equal(frames[6], frames[5])
    assert np.array_equal(np.delete(frames, 6, 0), np.delete(whole, 6, 0))
    assert np.array_equal(read_frames(shot, 6, 8), frames[6:8])


@pytest.mark.parametrize("where", [0.3, 0.5, 0.7])
def test_damage_inside_is_never_silent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, where: float
) -> None:
    """The decoder either conceals damage (a warning) or drops frames (an error); both name the file."""
    path = make_video(tmp_path / "clip.mp4", LOSSLESS)
    data = bytearray(path.read_bytes())
    start = int(len(data) * where)
    data[start : start + 16] = bytes(16)
    path.write_bytes(data)
    said = ""
    with caplog.at_level(logging.WARNING):
        try:
            read_frames(open_shot(path), 0, 40)
        except ShotError as error:
            said = str(error)
    assert "clip.mp4: " in said + caplog.text


def test_what_is_not_followed_of_a_pictures_shape_is_said(tmp_path: Path) -> None:
    wide = make_video(tmp_path / "w.mp4", ["-vf", "setsar=2/1", "-pix_fmt", "yuv420p"], num_frames=3)
    assert "w.mp4: its pixels are 2:1 wide" in open_shot(wide).notes[0]
    fields = ["-vf", "tinterlace,setsar=1", "-flags", "+ilme+ildct", "-pix_fmt", "yuv420p"]
    assert "is interlaced" in open_shot(make_video(tmp_path / "i.mp4", fields, num_frames=6)).notes[0]
    square = open_shot(make_video(tmp_path / "s.mp4", ["-vf", "setsar=1/1", "-pix_fmt", "yuv420p"]))
    assert square.notes == ()


def test_rgb_has_no_matrix(tmp_path: Path) -> None:
    rows = dict(inspect_shot(make_video(tmp_path / "clip.mov", ["-c:v", "qtrle"], num_frames=3)))
    assert "read as" not in rows["colours"]


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.5", tmp_path / "voice.mp4")
    with pytest.raises(ShotError, match=r"voice\.mp4: holds sound and no video frames"):
        open_shot(tmp_path / "voice.mp4")
