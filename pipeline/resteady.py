"""Steady a film that was styled frame by frame, by lookdev or by any other tool, with its shot's passes.

No diffusion. Frames go to disk one by one; a run that was stopped goes on at the first that is missing.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import OutputError
from pipeline.files import stamp, write_text, writing
from pipeline.image import UInt8Array, is_whole_png, read_png, resize, write_png
from pipeline.journal import held
from pipeline.output import (
    Record,
    check_space,
    encode_video,
    input_digests,
    read_record,
    render_bytes,
    write_record,
)
from pipeline.shot import Shot, iterate_frames, open_shot
from pipeline.steady.fuse import COLOUR_REACH, Seen, fuse
from pipeline.steady.metrics import Step
from pipeline.steps import Origin, check_fits, iterate_ways, motion_origin

OnFrame = Callable[[str, int, int], None]  # (name, frames done, frames in all)
VERSION = 1  # raise it when the code changes what comes out: old frames are then not taken for done
WINDOW = 8  # frames read at a time
USED_PASSES = ("rgb", "motion", "visible", "ids", "depth")


@dataclass(frozen=True)
class Steadied:
    """Where the steadied film is; `seconds` are those of the `num_made` frames made this time."""

    video: Path
    num_frames: int
    num_made: int
    seconds: float
    motion: Origin
    skipped: bool


@dataclass(frozen=True)
class _Work:
    """One film to steady, and the folder it goes to."""

    styled: Shot
    shot: Shot
    folder: Path
    digest: str

    @property
    def video(self) -> Path:
        return self.folder / f"{self.folder.name}.mp4"

    @property
    def record(self) -> Path:
        return self.folder / "record.json"

    def frame(self, index: int) -> Path:
        return self.folder / "frames" / f"steady.{self.styled.frame_numbers[index]:04d}.png"


def steady_video(path: Path, shot: Shot, out: Path, *, on_frame: OnFrame | None = None) -> Steadied:
    """Steady the film at `path` (a video or a folder of frames) along the motion of its shot.

    Writes `out/<name>_steady/`: frames, an H.264 video with the sound, record.json. Raises ShotError where
    the film does not fit the shot, OutputError where nothing can be written.
    """
    styled = open_shot(path)
    check_fits(styled, shot)
    folder = out / f"{styled.name}_steady"
    work = _Work(styled, shot, folder, _digest(styled, shot))
    if _is_done(work):
        return Steadied(work.video, styled.num_frames, 0, 0.0, motion_origin(shot), skipped=True)
    check_space(out, render_bytes(styled.num_frames, styled.height, styled.width))
    with held(folder):
        started = time.perf_counter()
        num_made = _make_frames(work, on_frame or _silent)
        seconds = time.perf_counter() - started
        frames = (read_png(work.frame(index))[None] for index in range(styled.num_frames))
        encode_video(frames, work.video, fps=shot.fps, audio=shot.audio or styled.audio)
        _write_record(work, seconds)
    return Steadied(work.video, styled.num_frames, num_made, seconds, motion_origin(shot), skipped=False)


def _is_done(work: _Work) -> bool:
    """Whether this very film was steadied to the end and the results are still there."""
    try:
        return work.video.is_file() and read_record(work.record).digest == work.digest
    except OutputError:  # no record, or not one of ours
        return False


def _make_frames(work: _Work, on_frame: OnFrame) -> int:
    """Every frame from the first that is missing on; returns their number."""
    total = work.styled.num_frames
    mark = work.folder / "steady.json"
    with writing(work.folder):
        (work.folder / "frames").mkdir(parents=True, exist_ok=True)
        work.record.unlink(missing_ok=True)
    if not mark.is_file() or mark.read_text(encoding="utf-8") != work.digest:
        with writing(work.folder):
            for stale in (work.folder / "frames").glob("steady.*.png"):
                stale.unlink()
        write_text(mark, work.digest)
    first = next((t for t in range(total) if not is_whole_png(work.frame(t))), total)
    start = max(0, first - COLOUR_REACH)
    on_frame(work.folder.name, first, total)
    if first < total:
        for t, frame in enumerate(fuse(_frames(work, start), skip=first - start), start=first):
            write_png(work.frame(t), frame)
            on_frame(work.folder.name, t + 1, total)
    return total - first


def _frames(work: _Work, start: int) -> Iterator[Seen]:
    """The frames from `start` on with their ways; a window is held."""
    size = {"width": work.styled.width, "height": work.styled.height}
    ways = iterate_ways(work.shot, start=start, **size)
    back: Step | None = None
    for styled, source in zip(_each(work.styled, start), _each(work.shot, start, **size), strict=True):
        onward, next_back = next(ways, (None, None))
        yield Seen(styled, source, onward, back)
        back = next_back


def _each(shot: Shot, start: int, *, width: int = 0, height: int = 0) -> Iterator[UInt8Array]:
    for window in iterate_frames(shot, WINDOW, start=start):
        yield from resize(window, height=height, width=width) if width else window


def _files(work: _Work) -> list[Path]:
    used = [*work.styled.passes["rgb"].files]
    for name in USED_PASSES:
        if name in work.shot.passes:
            used += work.shot.passes[name].files
    return used


def _digest(styled: Shot, shot: Shot) -> str:
    stamps = [stamp(file, styled.root) for file in styled.passes["rgb"].files]
    for name in USED_PASSES:
        if name in shot.passes:
            stamps += [stamp(file, shot.root) for file in shot.passes[name].files]
    identity = [VERSION, stamps, repr(shot.motion), repr(shot.depth)]
    return hashlib.sha256(json.dumps(identity).encode("utf-8")).hexdigest()


def _write_record(work: _Work, seconds: float) -> None:
    record = Record(
        shot=work.shot.name,
        digest=work.digest,
        num_frames=work.styled.num_frames,
        fps=work.shot.fps,
        inputs=input_digests(_files(work), base=work.shot.root),
        settings={"method": "fuse", "motion": motion_origin(work.shot), "styled": str(work.styled.root)},
        outputs=(work.video.name, "frames"),
        seconds={"frames": round(seconds, 3)},
    )
    write_record(work.record, record)


def _silent(name: str, done: int, total: int) -> None:
    """For callers that watch no progress."""
