"""Video files through imageio-ffmpeg's binary: frames by window, decoded once each."""

from __future__ import annotations

import logging
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from pipeline.errors import ShotError
from pipeline.image import UInt8Array, over_black
from pipeline.shot.values import VideoIndex

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = (".mp4", ".mov", ".webm", ".mkv", ".m4v", ".gif")
# The default swscale path is off by up to 3 levels; these flags bring flat patches to within 1.
EXACT_SCALE = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"


def ffmpeg_path() -> str:
    """The ffmpeg binary that imageio-ffmpeg ships (or that IMAGEIO_FFMPEG_EXE names)."""
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


def sound_codec(path: Path) -> str | None:
    """The codec of a file's first sound track as ffmpeg names it, or None."""
    command = [ffmpeg_path(), "-nostdin", "-hide_banner", "-i", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    match = re.search(r"^\s*Stream #0:\d+.*?: Audio: (\w+)", result.stderr, re.MULTILINE)
    return match[1] if match else None


def last_line(text: str) -> str:
    """The last thing that ffmpeg said, without the name of who said it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r"^(\[[^\]]*\] )+", "", lines[-1]) if lines else "no message"


def iterate_video(
    index: VideoIndex, window: int, *, start: int, stop: int, width: int, height: int
) -> Iterator[UInt8Array]:
    """Decode frames [start, stop) as uint8 RGB [T, H, W, 3] windows of at most `window`, with one decoder.

    See-through pixels are over black. Raises ShotError when the file gives fewer frames than its packets
    promised.
    """
    if index.shown is None:
        yield from _decode(index, window, start=start, stop=stop, width=width, height=height)
        return
    wanted = index.shown[start:stop]
    decoded = _decode(index, 1, start=wanted[0], stop=wanted[-1] + 1, width=width, height=height)
    position, frame = wanted[0], next(decoded)
    for first in range(0, len(wanted), window):
        frames = []
        for number in wanted[first : first + window]:
            while position < number:
                position, frame = position + 1, next(decoded)
            frames.append(frame[0])
        yield np.stack(frames)


def _decode(
    index: VideoIndex, window: int, *, start: int, stop: int, width: int, height: int
) -> Iterator[UInt8Array]:
    """The decoded frames [start, stop), whatever stands in for which."""
    channels = 4 if index.alpha else 3
    with tempfile.TemporaryFile() as errors:  # a pipe could fill up and block the decoder
        process = subprocess.Popen(
            _decode_command(index, start, stop), stdout=subprocess.PIPE, stderr=errors, bufsize=0
        )
        try:
            assert process.stdout is not None
            for first in range(start, stop, window):
                count = min(window, stop - first)
                data = _read_exactly(process.stdout, count * height * width * channels)
                if data is None:
                    errors.seek(0)
                    reason = last_line(errors.read().decode(errors="replace"))
                    where = f"{first}-{first + count - 1}" if count > 1 else f"{first}"
                    raise ShotError(
                        f"{index.path}: frames {where} of {len(index.pts)} cannot be decoded ({reason}); "
                        "the file is corrupt there; export it again"
                    )
                frames = data.reshape(count, height, width, channels)
                yield over_black(frames) if index.alpha else frames
            errors.seek(0)
            if complaint := errors.read().decode(errors="replace").strip():
                log.warning("%s: the decoder repaired damage (%s)", index.path, last_line(complaint))
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def seek(index: VideoIndex, start: int) -> list[str]:
    """ffmpeg's input options that begin at a frame."""
    if start == 0:
        return []
    # half-way between two frames, so that rounding cannot pick the wrong one
    seconds = (index.pts[start - 1] + index.pts[start]) * index.time_base / 2
    return ["-ss", f"{float(seconds):.6f}", "-seek_timestamp", "1"]


def _decode_command(index: VideoIndex, start: int, stop: int) -> list[str]:
    command = [ffmpeg_path(), "-v", "error", "-nostdin"]
    command += seek(index, start)
    if index.decoder:
        command += ["-c:v", index.decoder]
    command += ["-i", str(index.path), "-map", "0:v:0", "-frames:v", str(stop - start)]
    command += ["-fps_mode", "passthrough"]
    pixels = "rgba" if index.alpha else "rgb24"
    command += [
        "-vf",
        f"scale=in_color_matrix={index.matrix}:out_range=pc:{EXACT_SCALE},format={pixels}",
    ]
    return [*command, "-f", "rawvideo", "-pix_fmt", pixels, "-"]


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
