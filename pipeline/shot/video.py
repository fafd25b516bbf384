"""Video files through imageio-ffmpeg's binary: exact frame times without decoding, frames by window.

The container's own claims (duration, frame count, a rounded fps) are not believed: the packets are listed,
which costs a read of the file and no decoding, and gives the exact count, the exact rate and the seek times.
"""

from __future__ import annotations

import logging
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO

import numpy as np

from pipeline.errors import ShotError
from pipeline.image import UInt8Array
from pipeline.shot.values import VideoIndex

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = (".mp4", ".mov", ".webm", ".mkv", ".m4v")
STANDARD_RATES = tuple(
    Fraction(n * 1000, m) for n in (12, 15, 24, 25, 30, 48, 50, 60, 90, 100, 120) for m in (1000, 1001)
)
EXACT_STEP = 100  # ticks a frame; below, the container's rounding can move the rate
FLAG_DISCARD = 0x4  # libavcodec AV_PKT_FLAG_DISCARD: decoded for reference, never shown
MATRIX_TAGS = ("bt709", "bt470bg", "smpte170m", "bt2020nc", "bt2020c", "fcc", "smpte240m", "gbr")
HD_HEIGHT = 720  # an untagged stream of at least this height is BT.709, below BT.601, as players assume
# The default swscale path is off by up to 3 levels; these flags bring flat patches to within 1.
EXACT_SCALE = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"


@dataclass(frozen=True)
class VideoFacts:
    """What a video file holds."""

    index: VideoIndex
    fps: Fraction
    width: int
    height: int
    has_audio: bool


def ffmpeg_path() -> str:
    """The ffmpeg binary that imageio-ffmpeg ships (or that IMAGEIO_FFMPEG_EXE names)."""
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


def probe_video(path: Path) -> VideoFacts:
    """List the frames of a video and its rate, size and sound. Raises ShotError when it cannot be decoded."""
    header, time_base, pts = _list_packets(path)
    stream = re.search(r"^\s*Stream #0:\d+.*?: Video: (.*)$", header, re.MULTILINE)
    if stream is None or not pts:
        raise ShotError(f"{path}: holds no video frames; expected a video file; export it again")
    described = re.search(r"([\d.]+) fps", stream[1])
    fps = frame_rate(pts, time_base, described=float(described[1]) if described else None, path=path)
    width, height = _decoded_size(path)
    matrix = _matrix(stream[1], height)
    return VideoFacts(
        index=VideoIndex(path=path, time_base=time_base, pts=tuple(pts), matrix=matrix),
        fps=fps,
        width=width,
        height=height,
        has_audio=re.search(r"^\s*Stream #0:\d+.*?: Audio: ", header, re.MULTILINE) is not None,
    )


def _list_packets(path: Path) -> tuple[str, Fraction, list[int]]:
    """The text of the container's header, the time base, and the times of the shown frames in order."""
    command = [ffmpeg_path(), "-nostdin", "-hide_banner", "-i", str(path), "-map", "0:v:0"]
    command += ["-c", "copy", "-copyts", "-f", "framecrc", "-"]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if result.returncode != 0:
        raise ShotError(f"{path}: not a readable video ({_last_line(result.stderr)}); export it again")
    if "partial file" in result.stderr:  # the index lists frames that the data does not hold
        raise ShotError(
            f"{path}: the file is cut short ({path.stat().st_size} bytes); copy or export it again"
        )
    time_base, pts = Fraction(0), []
    for line in result.stdout.splitlines():
        if line.startswith("#tb 0:"):
            time_base = Fraction(line.split(":", 1)[1].strip())
        elif line.startswith("0,"):
            fields = [field.strip() for field in line.split(",")]
            flags = next((int(field[2:], 16) for field in fields[6:] if field.startswith("F=")), 0)
            if not flags & FLAG_DISCARD:
                pts.append(int(fields[2]))
    header = result.stderr.split("\nOutput #0", 1)[0]
    return header, time_base, sorted(pts)


def sound_codec(path: Path) -> str | None:
    """The codec of a file's first sound track as ffmpeg names it, or None."""
    command = [ffmpeg_path(), "-nostdin", "-hide_banner", "-i", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    match = re.search(r"^\s*Stream #0:\d+.*?: Audio: (\w+)", result.stderr, re.MULTILINE)
    return match[1] if match else None


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r"^(\[[^\]]*\] )+", "", lines[-1]) if lines else "no message"


def frame_rate(pts: list[int], time_base: Fraction, *, described: float | None, path: Path) -> Fraction:
    """The exact rate behind frame times that the container has rounded to its time base.

    Even steps of many ticks are the rate itself. Else a standard rate that explains every time to within one
    tick (WebM's ticks are 1 ms, so 24000/1001 arrives as 42, 41, 42 ms), the header's rounded figure breaking
    ties; else the mean rate, with a warning if the steps are uneven.
    """
    if len(pts) == 1:
        return _nearest_rate(described or 24.0)
    steps = np.diff(pts)
    if not steps.any():
        raise ShotError(
            f"{path}: all {len(pts)} frames have one time stamp; expected a video; export it again"
        )
    mean = Fraction(len(pts) - 1) / (int(pts[-1] - pts[0]) * time_base)
    if steps.min() == steps.max() >= EXACT_STEP:
        return mean
    fits = [rate for rate in STANDARD_RATES if _worst_error(pts, 1 / (rate * time_base)) <= 1.0]
    if fits:
        near = described if described is not None else float(mean)
        return min(fits, key=lambda rate: abs(float(rate) - near))
    if _worst_error(pts, 1 / (mean * time_base)) > 1.0:
        log.warning(
            "%s: frames are unevenly spaced; the result plays at their mean rate %.3f", path, float(mean)
        )
    return mean.limit_denominator(1001)


def _worst_error(pts: list[int], step: Fraction) -> float:
    times = np.asarray(pts, np.float64) - pts[0]
    return float(np.abs(times - np.arange(len(pts)) * float(step)).max())


def _nearest_rate(described: float) -> Fraction:
    nearest = min(STANDARD_RATES, key=lambda rate: abs(float(rate) - described))
    close = abs(float(nearest) - described) < 0.006  # the header prints two decimals
    return nearest if close else Fraction(described).limit_denominator(1001)


def _decoded_size(path: Path) -> tuple[int, int]:
    """(width, height) as decoded, so after the rotation a phone asks for."""
    command = [ffmpeg_path(), "-v", "error", "-nostdin", "-i", str(path), "-map", "0:v:0", "-frames:v", "1"]
    command += ["-f", "image2pipe", "-c:v", "ppm", "-"]
    result = subprocess.run(command, capture_output=True, check=False)
    fields = result.stdout[:64].split(maxsplit=3)  # P6 width height ...
    if result.returncode != 0 or len(fields) < 3:
        reason = _last_line(result.stderr.decode(errors="replace"))
        raise ShotError(f"{path}: its first frame cannot be decoded ({reason}); export it again")
    return int(fields[1]), int(fields[2])


def _matrix(stream: str, height: int) -> str:
    """The name swscale takes for the stream's matrix: "auto" where the stream is tagged."""
    tags = re.search(r", \w+\(([^)]*)\)", stream)
    if tags is not None and any(tag in re.split(r"[,/ ]+", tags[1]) for tag in MATRIX_TAGS):
        return "auto"
    return "bt709" if height >= HD_HEIGHT else "bt601"


def iterate_video(
    index: VideoIndex, window: int, *, start: int, stop: int, width: int, height: int
) -> Iterator[UInt8Array]:
    """Decode frames [start, stop) as uint8 RGB [T, H, W, 3] windows of at most `window`, with one decoder.

    Raises ShotError when the file gives fewer frames than its packets promised.
    """
    with tempfile.TemporaryFile() as errors:  # a pipe could fill up and block the decoder
        process = subprocess.Popen(
            _decode_command(index, start, stop), stdout=subprocess.PIPE, stderr=errors, bufsize=0
        )
        try:
            assert process.stdout is not None
            for first in range(start, stop, window):
                count = min(window, stop - first)
                data = _read_exactly(process.stdout, count * height * width * 3)
                if data is None:
                    errors.seek(0)
                    reason = _last_line(errors.read().decode(errors="replace"))
                    where = f"{first}-{first + count - 1}" if count > 1 else f"{first}"
                    raise ShotError(
                        f"{index.path}: frames {where} of {len(index.pts)} cannot be decoded ({reason}); "
                        "the file is corrupt there; export it again"
                    )
                yield data.reshape(count, height, width, 3)
            errors.seek(0)
            if complaint := errors.read().decode(errors="replace").strip():
                log.warning("%s: the decoder repaired damage (%s)", index.path, _last_line(complaint))
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _decode_command(index: VideoIndex, start: int, stop: int) -> list[str]:
    command = [ffmpeg_path(), "-v", "error", "-nostdin"]
    if start > 0:  # half-way between two frames, so that rounding cannot pick the wrong one
        seconds = (index.pts[start - 1] + index.pts[start]) * index.time_base / 2
        command += ["-ss", f"{float(seconds):.6f}", "-seek_timestamp", "1"]
    command += ["-i", str(index.path), "-map", "0:v:0", "-frames:v", str(stop - start)]
    command += ["-fps_mode", "passthrough"]
    command += ["-vf", f"scale=in_color_matrix={index.matrix}:out_range=pc:{EXACT_SCALE},format=rgb24"]
    return [*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]


def _read_exactly(stream: IO[bytes], num_bytes: int) -> UInt8Array | None:
    """The next `num_bytes` of a pipe as a writable array, or None when it ends first."""
    data = bytearray(num_bytes)
    view = memoryview(data)
    filled = 0
    while filled < num_bytes:
        got = stream.readinto(view[filled:])  # type: ignore[attr-defined]
        if not got:
            return None
        filled += got
    return np.frombuffer(data, np.uint8)
