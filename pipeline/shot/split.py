"""One long video cut into shots where the picture changes at once, by PySceneDetect.

Cuts are found on frames as this project decodes them (one decoder, one pass), so their numbers are those of
`Shot`; fades are not cuts. Each shot becomes a video with its piece of the sound, encoded without loss.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pipeline.errors import OutputError, ShotError
from pipeline.files import whole_file
from pipeline.image import UInt8Array, swap_rgb_bgr
from pipeline.shot.read import iterate_frames
from pipeline.shot.values import Shot
from pipeline.shot.video import ffmpeg_path, last_line, seek

WINDOW = 16  # frames read at a time
LOOKED_AT = 256  # pixels of the longer side; PySceneDetect's own default is 256 wide
THRESHOLD = 3.0  # PySceneDetect's own: times the mean change of the frames around
# Levels, the mean of hue, saturation and value. Its own 15 passes over cuts between grey renders, whose hue
# and saturation stand still (9 and 13 between the sample shots, 0.7 within them).
LEAST_CHANGE = 6.0
SHORTEST = 8  # frames; a flash is shorter

OnFrame = Callable[[int, int], None]  # frames done, frames in all


@dataclass(frozen=True)
class Cut:
    """Frames [start, stop) of the film, numbered from 0, and the file that holds them."""

    start: int
    stop: int
    path: Path


def find_cuts(
    shot: Shot, *, threshold: float = THRESHOLD, shortest: int = SHORTEST, on_frame: OnFrame | None = None
) -> list[tuple[int, int]]:
    """The shots of a film as (start, stop) frames, in order and without gaps; memory is one window.

    A cut is where the picture changes `threshold` times as much as around it (PySceneDetect's
    AdaptiveDetector, two frames either way), at least `shortest` frames after the one before. Raises
    ShotError for an unreadable file.
    """
    from scenedetect import AdaptiveDetector, FrameTimecode

    detector = AdaptiveDetector(
        adaptive_threshold=threshold, min_scene_len=shortest, window_width=2, min_content_val=LEAST_CHANGE
    )
    starts = [0]
    for number, frame in enumerate(_small_frames(shot)):
        found = detector.process_frame(FrameTimecode(number, fps=shot.fps), frame)
        starts += [time.frame_num for time in found]
        if on_frame is not None:
            on_frame(number + 1, shot.num_frames)
    found = detector.post_process(FrameTimecode(shot.num_frames - 1, fps=shot.fps))
    starts += [time.frame_num for time in found]
    starts = sorted(set(starts))
    return list(zip(starts, [*starts[1:], shot.num_frames], strict=True))


def _small_frames(shot: Shot) -> Iterator[UInt8Array]:
    """The frames as PySceneDetect takes them: BGR, small."""
    shrink = max(1.0, max(shot.width, shot.height) / LOOKED_AT)
    size = (max(1, round(shot.width / shrink)), max(1, round(shot.height / shrink)))
    for window in iterate_frames(shot, WINDOW):
        for frame in window:
            yield np.asarray(swap_rgb_bgr(cv2.resize(frame, size, interpolation=cv2.INTER_AREA)), np.uint8)


def write_cuts(shot: Shot, cuts: Sequence[tuple[int, int]], out: Path) -> Iterator[Cut]:
    """Write each shot of a film as OUT/<name>_001.mov ... and yield it; what is there already is kept.

    The picture is encoded without loss in the film's own pixel format and tags, the sound as PCM, both cut at
    the same instant. Raises OutputError, and ShotError where the film is no video.
    """
    if shot.passes["rgb"].video is None:
        raise ShotError(f"{shot.root}: not a video; expected a film to cut; make it one with ffmpeg first")
    digits = max(3, len(str(len(cuts))))
    for number, (start, stop) in enumerate(cuts, start=1):
        path = out / f"{shot.name}_{number:0{digits}d}.mov"
        if not path.exists():
            with whole_file(path) as partial:
                _write(shot, start, stop, partial, path)
        yield Cut(start, stop, path)


def _write(shot: Shot, start: int, stop: int, path: Path, name: Path) -> None:
    index = shot.passes["rgb"].video
    assert index is not None
    rate = f"{shot.fps.numerator}/{shot.fps.denominator}"
    command = [ffmpeg_path(), "-v", "error", "-nostdin", "-y", *seek(index, start), "-i", str(index.path)]
    if shot.audio is not None:
        begin = float(index.pts[start] * index.time_base)
        length = float((stop - start) / shot.fps)
        command += [
            "-ss",
            f"{begin:.6f}",
            "-seek_timestamp",
            "1",
            "-t",
            f"{length:.6f}",
            "-i",
            str(shot.audio),
        ]
        command += ["-map", "1:a:0", "-c:a", "pcm_s16le"]
    command += ["-map", "0:v:0", "-frames:v", str(stop - start), "-vf", f"setpts=N/({rate})/TB", "-r", rate]
    command += _codec(index.path)
    result = subprocess.run(
        [*command, "-f", "mov", str(path)], capture_output=True, text=True, errors="replace", check=False
    )
    if result.returncode != 0:
        raise OutputError(
            f"{name}: ffmpeg could not write the shot ({last_line(result.stderr)}); check the folder"
        )


def _codec(path: Path) -> list[str]:
    """H.264 without loss where it has the film's pixel format (a third of FFV1's bytes), else FFV1."""
    command = [ffmpeg_path(), "-nostdin", "-hide_banner", "-i", str(path)]
    said = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stderr
    stream = re.search(r"Stream #0:\d+.*?: Video: \w+[^,]*(?:\([^)]*\))*, (\w+)", said)
    if stream is not None and stream[1] in ("yuv420p", "yuv422p", "yuv444p", "yuvj420p"):
        return ["-c:v", "libx264", "-qp", "0", "-preset", "veryfast"]
    return ["-c:v", "ffv1"]
