"""The free-space check against the real disk."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import OutputError
from pipeline.image import encode_png
from pipeline.output import VideoSettings, check_space, encode_video, render_bytes
from pipeline.preset import Output


def test_enough_and_too_little(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    folder = tmp_path / "not" / "yet" / "there"
    check_space(folder, 1000, reserve_bytes=0)
    with pytest.raises(OutputError, match=r"there: .* free on its disk; expected .* here; free") as caught:
        check_space(folder, 2 * free, reserve_bytes=0)
    assert "\n" not in str(caught.value)
    with pytest.raises(OutputError):
        check_space(folder, 0, reserve_bytes=2 * free)
    assert list(tmp_path.iterdir()) == []  # asking makes nothing


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "held").write_text("x")
    with pytest.raises(OutputError, match="held: is a file"):
        check_space(tmp_path / "held" / "out", 1)


def test_the_estimate_covers_the_worst_frames() -> None:
    """Noise does not compress: its PNGs are the largest that frames can make."""
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    assert render_bytes(48, 128, 128) >= 48 * len(encode_png(noise))


def test_the_estimate_follows_the_video_s_scale_and_crf(tmp_path: Path) -> None:
    """Against x264 itself, without loss and enlarged: what the frames alone would never need."""
    noise = np.random.default_rng(0).integers(0, 256, (4, 160, 160, 3), dtype=np.uint8)
    frames_only = render_bytes(4, 160, 160, output=Output(format="png"))
    for scale in (1, 2):
        settings = VideoSettings(crf=0, scale=scale)
        encode_video([noise], tmp_path / "a.mp4", fps=Fraction(24), settings=settings)
        size = (tmp_path / "a.mp4").stat().st_size
        estimate = render_bytes(4, 160, 160, output=Output(scale=scale, crf=0)) - frames_only
        assert size <= estimate < 2 * size
    assert render_bytes(4, 160, 160, output=Output(crf=30)) < render_bytes(4, 160, 160, output=Output(crf=16))
