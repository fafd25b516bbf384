"""Every format: exact rate and count, BT.709 in pixels and tags, sound in time, the same bytes again."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from test_encode import describe, inner, make_sound, patches, sound

from pipeline.errors import OutputError
from pipeline.image import linear_light, linear_to_srgb
from pipeline.output import (
    CODECS,
    VideoSettings,
    encode_video,
    render_bytes,
    write_exr_sequence,
    write_sound,
)
from pipeline.preset import Output
from pipeline.shot import open_shot, read_frames
from pipeline.shot.exr import channel_names, read_channels

SUFFIX = {"h264": ".mp4", "h265": ".mp4", "prores": ".mov"}
STREAM = {
    "h264": r"Video: h264 .*yuv420p\(tv, bt709, progressive\)",
    "h265": r"Video: hevc .*\(hvc1 .*yuv420p\(tv, bt709",
    "prores": r"Video: prores \(HQ\) .*yuv422p10le\(tv, bt709",
}


def film(num_frames: int) -> np.ndarray:
    """The patches, a level brighter from frame to frame."""
    frame, _ = patches()
    return np.stack([np.minimum(frame.astype(int) + t, 255).astype(np.uint8) for t in range(num_frames)])


@pytest.mark.parametrize("codec", list(CODECS))
def test_a_video_comes_back_as_it_went_in(tmp_path: Path, codec: str) -> None:
    path = tmp_path / f"a{SUFFIX[codec]}"
    fps = Fraction(24000, 1001)
    said = "iris, film look\nSteps: 8, Seed: 1"
    settings = VideoSettings(codec=codec, crf=8, comment=said)
    frames = film(24)
    encode_video([frames], path, fps=fps, audio=make_sound(tmp_path / "s.wav", 1.5), settings=settings)
    shot = open_shot(path)
    assert (shot.fps, shot.num_frames, shot.audio) == (fps, 24, path)
    difference = np.abs(inner(read_frames(shot, 0, 24)) - inner(frames))
    assert difference.mean() <= 0.6 and difference.max() <= 2.0  # as 8-bit limited range allows
    header = describe(path)
    assert re.search(STREAM[codec], header)
    assert re.search(r"comment +: iris, film look\n +: Steps: 8, Seed: 1", header)
    tone = sound(path)
    assert abs(len(tone) / 48000 - float(24 / fps)) < 0.03
    assert np.abs(tone[:4800]).max() > 0.05  # it starts with the picture

    encode_video([frames], tmp_path / f"b{path.suffix}", fps=fps, settings=settings)
    encode_video([frames], tmp_path / f"c{path.suffix}", fps=fps, settings=settings)
    assert (tmp_path / f"b{path.suffix}").read_bytes() == (tmp_path / f"c{path.suffix}").read_bytes()


def test_prores_keeps_pcm_as_it_is_and_has_profiles(tmp_path: Path) -> None:
    source = make_sound(tmp_path / "s.wav", 1.0)
    settings = VideoSettings(codec="prores", profile="4444")
    encode_video([film(24)], tmp_path / "a.mov", fps=Fraction(24), audio=source, settings=settings)
    header = describe(tmp_path / "a.mov")
    assert re.search(r"prores \(4444\).* yuv444p1[02]le\(tv, bt709", header)  # its decoder says 12 bits
    assert "pcm_s16le" in header
    before, after = sound(source), sound(tmp_path / "a.mov")
    assert np.array_equal(before[: len(after)], after)


@pytest.mark.parametrize("output", [Output(format="prores", profile=p) for p in ("proxy", "hq", "4444")])
def test_the_estimate_covers_prores(tmp_path: Path, output: Output) -> None:
    rng = np.random.default_rng(0)
    grain = np.clip(film(4) + rng.normal(0, 8, film(4).shape), 0, 255).astype(np.uint8)
    settings = VideoSettings(codec="prores", profile=output.profile)
    encode_video([grain], tmp_path / "a.mov", fps=Fraction(24), settings=settings)
    frames_only = render_bytes(4, *grain.shape[1:3], output=Output(format="png"))
    size = (tmp_path / "a.mov").stat().st_size
    assert size <= render_bytes(4, *grain.shape[1:3], output=output) - frames_only + 4096


def test_exr_is_linear_light_in_halfs(tmp_path: Path) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    levels[..., 1] //= 2
    (tmp_path / "exr").mkdir()
    (tmp_path / "exr" / "old.0009.exr").write_bytes(b"of an earlier result")
    names = ["walk.0007.exr"]
    assert write_exr_sequence([levels], tmp_path / "exr", names) == 1
    assert [path.name for path in (tmp_path / "exr").iterdir()] == names
    path = tmp_path / "exr" / names[0]
    assert sorted(channel_names(path)) == ["B", "G", "R"]
    planes = np.stack(read_channels(path, ["R", "G", "B"]), axis=-1)
    assert planes.max() == 1.0 and abs(float(planes[13, 4, 0]) - 0.6584) < 1e-3  # level 212, IEC 61966-2-1
    back = np.rint(linear_to_srgb(planes) * 255).astype(np.uint8)
    assert np.array_equal(back, levels[0])  # half floats keep every 8-bit level
    assert np.abs(planes - linear_light(levels[0])).max() < 2**-11


def test_names_and_frames_must_be_as_many(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_exr_sequence([np.zeros((2, 4, 4, 3), np.uint8)], tmp_path, ["a.0001.exr"])


def test_what_a_killed_encoder_left_goes_with_the_next(tmp_path: Path) -> None:
    (tmp_path / ".a.partial-1.mp4").write_bytes(b"half")
    (tmp_path / ".a.silent.partial-1.mp4").write_bytes(b"half")
    (tmp_path / ".ab.partial-1.mp4").write_bytes(b"another's")
    encode_video([film(2)], tmp_path / "a.mp4", fps=Fraction(24))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".ab.partial-1.mp4", "a.mp4"]


def test_the_sound_of_a_sequence_lies_beside_it(tmp_path: Path) -> None:
    """The samples as they are, cut to the pictures' length; out of a video too."""
    source = make_sound(tmp_path / "s.wav", 1.5)
    write_sound(source, tmp_path / "a.wav", seconds=Fraction(24 * 1001, 24000))
    tone = sound(tmp_path / "a.wav")
    assert len(tone) == round(48000 * 1.001) and np.array_equal(tone, sound(source)[: len(tone)])
    write_sound(source, tmp_path / "b.wav", seconds=Fraction(24 * 1001, 24000))
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    encode_video([film(24)], tmp_path / "silent.mp4", fps=Fraction(24))
    with pytest.raises(OutputError, match=r"silent\.mp4: holds no sound; expected a sound track for c\.wav"):
        write_sound(tmp_path / "silent.mp4", tmp_path / "c.wav", seconds=Fraction(1))
