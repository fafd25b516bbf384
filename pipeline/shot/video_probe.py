"""What a video file holds, from its packets: exact count, times, rate, size, colour tags and sound.

The container's own claims (duration, frame count, a rounded fps) are not believed: the packets are listed,
which costs a read of the file and no decoding, and gives the exact count, the exact rate and the seek times.
"""

from __future__ import annotations

import re
import subprocess
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from pipeline.errors import ShotError
from pipeline.shot.sequence import list_numbers
from pipeline.shot.values import VideoIndex
from pipeline.shot.video import ffmpeg_path, last_line

STANDARD_RATES = tuple(
    Fraction(n * 1000, m) for n in (12, 15, 24, 25, 30, 48, 50, 60, 90, 100, 120) for m in (1000, 1001)
)
EXACT_STEP = 100  # ticks a frame; below, the container's rounding can move the rate
FLAG_DISCARD = 0x4  # libavcodec AV_PKT_FLAG_DISCARD: decoded for reference, never shown
MATRIX_TAGS = ("bt709", "bt470bg", "smpte170m", "bt2020nc", "bt2020c", "fcc", "smpte240m", "gbr")
HDR_TAGS = ("smpte2084", "arib-std-b67")
SHAPE_WORDS = (
    "progressive",
    "top first",
    "bottom first",
    "top coded first (swapped)",
    "bottom coded first (swapped)",
)
ALPHA_FORMATS = re.compile(r"\b(yuva\w+|gbrap\w*|rgba\w*|bgra\w*|argb|abgr|ya8|ya16\w*)\b")
RGB_FORMATS = re.compile(r"\b(rgb\w*|bgr\w*|gbr\w*|argb|abgr|pal8|mono[wb])\b")
INTERLACED = re.compile(r"\b(top|bottom) (coded )?first")
PIXEL_SHAPE = re.compile(r"\bSAR (\d+):(\d+)")
HD_HEIGHT = 720  # an untagged stream of at least this height is BT.709, below BT.601, as players assume
EVEN_ENOUGH = 1.5  # ticks, or this share of a millisecond: containers round


@dataclass(frozen=True)
class VideoFacts:
    """What a video file holds. `colours`: its tags as ffmpeg prints them, "" for none."""

    index: VideoIndex
    fps: Fraction
    width: int
    height: int
    has_audio: bool
    colours: str = ""
    notes: tuple[str, ...] = ()


def probe_video(path: Path, *, fill_gaps: bool = False, skip_bad: bool = False) -> VideoFacts:
    """List the frames of a video and its rate, size and sound. Raises ShotError when it cannot be decoded.

    Unevenly spaced frames (a variable rate) play evenly at their mean rate, with a note; with `fill_gaps`
    each is held until the next is due instead, at the rate most of them have. With `skip_bad` all frames
    are decoded once; those that cannot be are the one before, and the shot ends with the last that can.
    """
    header, time_base, pts, is_cut = _list_packets(path)
    if is_cut and not skip_bad:
        raise ShotError(
            f"{path}: the file is cut short ({path.stat().st_size} bytes); copy or export it again, or take "
            "--skip-bad"
        )
    stream = re.search(r"^\s*Stream #0:\d+.*?: Video: (.*)$", header, re.MULTILINE)
    if stream is None or not pts:
        raise ShotError(f"{path}: holds no video frames; expected a video file; export it again")
    described = re.search(r"([\d.]+) fps", stream[1])
    fps = frame_rate(pts, time_base, described=float(described[1]) if described else None, path=path)
    width, height = _decoded_size(path)
    index = _index(path, header, stream[1], time_base, pts, height)
    colours = _colours(stream[1])
    notes = [_hdr_note(path, colours)] if any(tag in colours for tag in HDR_TAGS) else []
    notes += _shape_notes(path, stream[1])
    if skip_bad:
        index, damage = _decodable(index)
        notes += [f"{path}: the file is cut short; what it still holds is used"] if is_cut else []
        notes += damage
    if index.shown is None and _is_uneven(index.pts, fps, time_base):
        fps, index, note = _evened(index, fps, hold=fill_gaps)
        notes.append(note)
    return VideoFacts(
        index=index,
        fps=fps,
        width=width,
        height=height,
        has_audio=re.search(r"^\s*Stream #0:\d+.*?: Audio: ", header, re.MULTILINE) is not None,
        colours=colours,
        notes=tuple(notes),
    )


def _index(
    path: Path, header: str, stream: str, time_base: Fraction, pts: Sequence[int], height: int
) -> VideoIndex:
    """The index of a stream that is described so, each frame its own."""
    vp9_alpha = "vp9" in stream and re.search(r"alpha_mode\s*:\s*1", header) is not None
    return VideoIndex(
        path=path,
        time_base=time_base,
        pts=tuple(pts),
        matrix=_matrix(stream, height),
        alpha=vp9_alpha or ALPHA_FORMATS.search(stream) is not None,
        decoder="libvpx-vp9" if vp9_alpha else "",  # ffmpeg's own drops the alpha
    )


def _decodable(index: VideoIndex) -> tuple[VideoIndex, list[str]]:
    """The index with only the frames that the decoder gives; each stands in for those after it that fail."""
    command = [ffmpeg_path(), "-v", "error", "-nostdin"]
    command += ["-c:v", index.decoder] if index.decoder else []
    command += ["-copyts", "-i", str(index.path), "-map", "0:v:0", "-fps_mode", "passthrough"]
    command += ["-enc_time_base", "demux", "-f", "framecrc", "-"]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    given = sorted(int(line.split(",")[2]) for line in result.stdout.splitlines() if line.startswith("0,"))
    if not given:
        raise ShotError(
            f"{index.path}: no frame can be decoded ({last_line(result.stderr)}); export it again"
        )
    last = bisect_right(index.pts, given[-1])
    shown = tuple(max(bisect_right(given, time) - 1, 0) for time in index.pts[:last])
    decoded = set(given)
    lost = [t for t, time in enumerate(index.pts[:last]) if time not in decoded]
    notes = []
    if lost:
        notes.append(f"rgb: frames {list_numbers(lost)} skipped: cannot be decoded; the one before stands in")
    if last < len(index.pts):
        cut = list_numbers(range(last, len(index.pts)))
        notes.append(f"rgb: frames {cut} skipped: cannot be decoded; the shot ends at frame {last - 1}")
    if result.stderr.strip() and not notes:
        notes.append(f"rgb: the decoder repaired damage ({last_line(result.stderr)})")
    return replace(index, pts=tuple(given), shown=shown if lost else None), notes


def _is_uneven(pts: Sequence[int], fps: Fraction, time_base: Fraction) -> bool:
    step = 1 / (fps * time_base)
    return len(pts) > 1 and _worst_error(pts, step) > max(1.0, 0.001 / float(time_base), 0.02 * float(step))


def _evened(index: VideoIndex, mean: Fraction, *, hold: bool) -> tuple[Fraction, VideoIndex, str]:
    """Rate, index and note of a video of a variable rate."""
    steps = np.diff(index.pts)
    usual = _nearest_rate(float(1 / (int(np.median(steps[steps > 0])) * index.time_base)))
    shortest, longest = (1000 * float(int(step) * index.time_base) for step in (steps.min(), steps.max()))
    spaced = f"frames are unevenly spaced ({shortest:.0f} to {longest:.0f} ms)"
    if not hold:
        off = 1000 * float(_worst_error(index.pts, 1 / (mean * index.time_base)) * index.time_base)
        said = (
            f"{index.path}: {spaced}; each is used once, at their mean rate {float(mean):.3f}, up to "
            f"{off:.0f} ms off their times; take --fill-gaps to hold each until the next is due, at {usual}"
        )
        return mean, index, said
    seconds = (index.pts[-1] - index.pts[0]) * index.time_base
    times = [
        index.pts[0] + (k / usual) / index.time_base for k in range(int(seconds * usual + Fraction(1, 2)) + 1)
    ]
    shown = tuple(bisect_right(index.pts, time + Fraction(1, 2)) - 1 for time in times)
    return (
        usual,
        replace(index, shown=shown),
        f"{index.path}: {spaced}; each is held until the next, at {usual}",
    )


def _colours(stream: str) -> str:
    """The colour tags of a stream's description, "tv, bt709", without what it says of fields."""
    tags = re.search(r", \w+\(([^)]*)\)", stream)
    words = [word.strip() for word in tags[1].split(",")] if tags is not None else []
    return ", ".join(word for word in words if word and word not in SHAPE_WORDS)


def _hdr_note(path: Path, colours: str) -> str:
    return f"{path}: is HDR ({colours}); its levels are read as they are and look grey; convert it to BT.709"


def _shape_notes(path: Path, stream: str) -> list[str]:
    """What of the picture's shape is not followed: pixels that are no squares, two fields in a frame."""
    notes = []
    shape = PIXEL_SHAPE.search(stream)
    if shape is not None and shape[1] != shape[2] and "0" not in (shape[1], shape[2]):
        notes.append(
            f"{path}: its pixels are {shape[1]}:{shape[2]} wide and are read as squares, which squeezes the "
            "picture; scale it to square pixels first"
        )
    if INTERLACED.search(stream):
        notes.append(f"{path}: is interlaced; both fields are read as one picture; deinterlace it first")
    return notes


def _list_packets(path: Path) -> tuple[str, Fraction, list[int], bool]:
    """The container's header as text, time base, times of the shown frames, and if it is cut short."""
    command = [ffmpeg_path(), "-nostdin", "-hide_banner", "-i", str(path), "-map", "0:v:0"]
    command += ["-c", "copy", "-copyts", "-f", "framecrc", "-"]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if result.returncode != 0:
        if "Audio: " in result.stderr and "Video: " not in result.stderr:
            raise ShotError(f"{path}: holds sound and no video frames; expected a video; export it again")
        raise ShotError(f"{path}: not a readable video ({last_line(result.stderr)}); export it again")
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
    return header, time_base, sorted(pts), "partial file" in result.stderr  # its index lists more


def frame_rate(pts: list[int], time_base: Fraction, *, described: float | None, path: Path) -> Fraction:
    """The exact rate behind frame times that the container has rounded to its time base.

    Even steps of many ticks are the rate itself. Else a standard rate that explains every time to within one
    tick (WebM's ticks are 1 ms, so 24000/1001 arrives as 42, 41, 42 ms), the header's rounded figure breaking
    ties; else the mean rate.
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
    return mean.limit_denominator(1001)


def _worst_error(pts: Sequence[int], step: Fraction) -> float:
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
        reason = last_line(result.stderr.decode(errors="replace"))
        raise ShotError(f"{path}: its first frame cannot be decoded ({reason}); export it again")
    return int(fields[1]), int(fields[2])


def _matrix(stream: str, height: int) -> str:
    """The name swscale takes for the stream's matrix: "auto" where the stream is tagged, or RGB."""
    if RGB_FORMATS.search(stream):
        return "auto"
    tags = re.search(r", \w+\(([^)]*)\)", stream)
    if tags is not None and any(tag in re.split(r"[,/ ]+", tags[1]) for tag in MATRIX_TAGS):
        return "auto"
    return "bt709" if height >= HD_HEIGHT else "bt601"
