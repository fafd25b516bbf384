"""Frames to a video: the source's exact rate, its sound, and colours that come back as they went in.

The pixels are converted with the BT.709 matrix and the file says so; an untagged file, or one converted with
ffmpeg's default BT.601 matrix, plays with shifted reds and greens on most players.
"""

from __future__ import annotations

import contextlib
import glob
import logging
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO

import numpy as np

from pipeline.errors import OutputError
from pipeline.files import PARTIAL, final_path, partial_path, whole_file, writing
from pipeline.image import UInt8Array
from pipeline.output.codecs import CODECS, Codec
from pipeline.shot.video import EXACT_SCALE, ffmpeg_path, sound_codec

log = logging.getLogger(__name__)

DEFAULT_CRF = 16  # visually lossless for film grain (x264's own scale: 0 lossless, 23 default)
LARGEST_CRF = 51
# On the frames, because ffmpeg lets what the filters say about a frame override the encoder's own options.
TAGS = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"


@dataclass(frozen=True)
class VideoSettings:
    """How a video is encoded. `scale` repeats each pixel scale x scale times, for tiny frames only.

    codec: a row of CODECS; crf, preset: x264's and x265's; profile: ProRes' own; comment: the file's own.
    """

    crf: int = DEFAULT_CRF
    preset: str = "medium"
    scale: int = 1
    codec: str = "h264"
    profile: str = "hq"
    comment: str = ""


DEFAULT_SETTINGS = VideoSettings()


def encode_video(
    windows: Iterable[UInt8Array],
    path: Path,
    *,
    fps: Fraction,
    audio: Path | None = None,
    settings: VideoSettings = DEFAULT_SETTINGS,
) -> int:
    """Encode uint8 RGB [T, H, W, 3] windows to `path` as `settings.codec` (BT.709); return how many.

    Windows are consumed one by one, so memory is one window. An odd width or height gains a column or row
    that repeats the edge: 4:2:0 needs even sizes. `audio` is any file with a sound track, copied where the
    container carries it, else made AAC (MP4) or 24-bit PCM (MOV), and cut to the picture's length when
    longer. The file appears whole or not at all; nothing else may be encoding it. Raises OutputError (full
    disk, no permission, unusable sound), ValueError for windows that differ.
    """
    if not 0 <= settings.crf <= LARGEST_CRF or settings.scale < 1:
        raise ValueError(f"{settings}; expected crf 0-{LARGEST_CRF}, scale at least 1")
    frames = _checked(windows, settings.scale)
    _clear_partials(path)
    if audio is None:
        with whole_file(path, own=True) as partial:
            return _encode_picture(frames, partial, fps, settings)
    with whole_file(path, own=True) as partial:
        silent = partial_path(path.with_name(f"{path.stem}.silent{path.suffix}"), own=True)
        try:
            num_frames = _encode_picture(frames, silent, fps, settings)
            sound = _sound_options(audio, CODECS[settings.codec], name=path)
            _add_sound(silent, audio, partial, sound, seconds=num_frames / fps, name=path)
        finally:
            silent.unlink(missing_ok=True)
        return num_frames


def _clear_partials(path: Path) -> None:
    """Remove what a killed process left of this video; each has a name of its own, so they would add up."""
    if path.parent.is_dir():
        with writing(path):
            for stem in (path.stem, f"{path.stem}.silent"):
                for stale in path.parent.glob(f".{glob.escape(stem)}{PARTIAL}-*{path.suffix}"):
                    stale.unlink(missing_ok=True)


def _checked(windows: Iterable[UInt8Array], scale: int) -> Iterator[UInt8Array]:
    """The frames [H, W, 3] one by one, made even-sized, after checking that they are all alike."""
    shape: tuple[int, ...] | None = None
    for window in windows:
        if window.dtype != np.uint8 or window.ndim != 4 or window.shape[3] != 3:
            raise ValueError(f"window is {window.dtype} {window.shape}; expected uint8 [T, H, W, 3]")
        shape = shape or window.shape[1:]
        if window.shape[1:] != shape:
            raise ValueError(f"window of {window.shape[1:]} after {shape}; expected one size")
        for frame in window:
            yield _even(frame.repeat(scale, 0).repeat(scale, 1) if scale > 1 else frame)


def _even(frame: UInt8Array) -> UInt8Array:
    height, width = frame.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return frame
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _encode_picture(frames: Iterator[UInt8Array], path: Path, fps: Fraction, settings: VideoSettings) -> int:
    first = next(frames, None)
    if first is None:
        raise ValueError("no frames to encode; expected at least one")
    height, width = first.shape[:2]
    command = [ffmpeg_path(), "-v", "error", "-nostdin", "-y"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
    command += ["-framerate", f"{fps.numerator}/{fps.denominator}", "-i", "-"]
    codec = CODECS[settings.codec]
    pixels = codec.pixel_format(settings.profile)
    convert = f"scale=out_color_matrix=bt709:out_range=tv:{EXACT_SCALE},format={pixels}"
    command += ["-vf", f"{convert},{TAGS}"]
    command += codec.options(crf=settings.crf, preset=settings.preset, profile=settings.profile)
    if settings.comment:
        command += ["-metadata", f"comment={settings.comment}"]
    command += ["-fps_mode", "passthrough", "-f", codec.muxer, str(path)]
    with _feeding(command, path) as stdin:
        stdin.write(np.ascontiguousarray(first).data)
        del first  # else it would hold its window to the end
        num_frames = 1
        for frame in frames:
            stdin.write(np.ascontiguousarray(frame).data)
            num_frames += 1
    return num_frames


@contextlib.contextmanager
def _feeding(command: list[str], path: Path) -> Iterator[IO[bytes]]:
    """Run ffmpeg on what is written to the yielded pipe; OutputError with its last line when it fails."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors)
        assert process.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # ffmpeg gave up; its own message says why
                yield process.stdin
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            code = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            with contextlib.suppress(OSError):
                process.stdin.close()
        if code != 0:
            errors.seek(0)
            raise ffmpeg_error(path, errors.read().decode(errors="replace"))


def ffmpeg_error(path: Path, messages: str) -> OutputError:
    """The one line for what ffmpeg said while writing `path`."""
    path = final_path(path)
    if "No space left on device" in messages:
        return OutputError(f"{path}: the disk is full; free some space or choose another output folder")
    lines = [line.strip() for line in messages.splitlines() if line.strip()]
    reason = re.sub(r"^(\[[^\]]*\] )+", "", lines[0]) if lines else "no message"
    return OutputError(f"{path}: ffmpeg could not write the video ({reason}); check the output folder")


def _sound_options(audio: Path, codec: Codec, *, name: Path) -> list[str]:
    found = sound_codec(audio)
    if found is None:
        raise OutputError(f"{audio}: holds no sound; expected a sound track for {name.name}; leave audio out")
    how = ("-c:a", "copy") if found in codec.copied_sound else codec.other_sound
    return [*how, "-movflags", "+faststart", "-f", codec.muxer]


def _add_sound(
    silent: Path, audio: Path, path: Path, options: list[str], *, seconds: Fraction, name: Path
) -> None:
    command = [ffmpeg_path(), "-v", "error", "-nostdin", "-y", "-i", str(silent)]
    # The limit stands on the sound's own input: -shortest with a copied stream can drop the last pictures.
    command += [
        "-t",
        f"{float(seconds):.6f}",
        "-i",
        str(audio),
        "-map",
        "0:v:0",
        "-map",
        "1:a:0",
        "-c:v",
        "copy",
    ]
    command += [*options, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if result.returncode != 0:
        raise ffmpeg_error(name, result.stderr)


def write_sound(audio: Path, path: Path, *, seconds: Fraction) -> None:
    """The sound beside a sequence of pictures: `path`, a WAV of 24-bit PCM, cut to the pictures' length.

    It appears whole or not at all. Raises OutputError where `audio` holds no sound or nothing can be written.
    """
    if sound_codec(audio) is None:
        raise OutputError(f"{audio}: holds no sound; expected a sound track for {path.name}; leave audio out")
    with whole_file(path, own=True) as partial:
        command = [ffmpeg_path(), "-v", "error", "-nostdin", "-y", "-t", f"{float(seconds):.6f}", "-i"]
        command += [str(audio), "-map", "0:a:0", "-c:a", "pcm_s24le", "-fflags", "+bitexact", str(partial)]
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if result.returncode != 0:
            raise ffmpeg_error(path, result.stderr)
