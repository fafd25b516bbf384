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

from pipeline.errors import OutputError, ShotError
from pipeline.files import stamp, write_text, writing
from pipeline.footage import Origin, motion_origin
from pipeline.hold import held
from pipeline.image import is_whole_png, read_png, write_png
from pipeline.output import (
    Record,
    check_space,
    encode_video,
    input_digests,
    read_record,
    render_bytes,
    write_record,
)
from pipeline.shot import Shot, open_shot
from pipeline.steady.fuse import COLOUR_REACH, Method, Seen, fuse
from pipeline.steady.metrics import Step
from pipeline.steps import check_fits, each_frame, film_name, iterate_ways, used_files

OnFrame = Callable[[str, int, int], None]  # (name, frames done, frames in all)
VERSION = 1  # raise it when the code changes what comes out: old frames are then not taken for done


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
    method: Method

    @property
    def audio(self) -> Path | None:
        return self.shot.audio or self.styled.audio

    @property
    def video(self) -> Path:
        return self.folder / f"{self.folder.name}.mp4"

    @property
    def record(self) -> Path:
        return self.folder / "record.json"

    def frame(self, index: int) -> Path:
        return self.folder / "frames" / f"steady.{self.styled.frame_numbers[index]:04d}.png"


def steady_video(
    path: Path, shot: Shot, out: Path, *, method: Method = "keys", on_frame: OnFrame | None = None
) -> Steadied:
    """Steady the film at `path` (a video or a folder of frames) along the motion of its shot.

    Writes `out/<shot>_<name>_steady/`: frames, an H.264 video with the sound, record.json. Raises ShotError
    where the film does not fit the shot, OutputError where nothing can be written.
    """
    styled = open_shot(path)
    check_fits(styled, shot)
    _check_rate(styled, shot)
    folder = out / f"{film_name(styled, shot)}_steady"
    work = _Work(styled, shot, folder, method)
    if _is_done(work):
        return Steadied(work.video, styled.num_frames, 0, 0.0, motion_origin(shot), skipped=True)
    check_space(out, render_bytes(styled.num_frames, styled.height, styled.width))
    with held(folder):
        started = time.perf_counter()
        num_made = _make_frames(work, on_frame or _silent)
        seconds = time.perf_counter() - started
        frames = (read_png(work.frame(index))[None] for index in range(styled.num_frames))
        encode_video(frames, work.video, fps=shot.fps, audio=work.audio)
        _write_record(work)
    return Steadied(work.video, styled.num_frames, num_made, seconds, motion_origin(shot), skipped=False)


def _check_rate(styled: Shot, shot: Shot) -> None:
    if styled.passes["rgb"].video is not None and styled.fps != shot.fps:
        raise ShotError(
            f"{styled.root} has {float(styled.fps):g} frames/s, the shot {shot.root} {float(shot.fps):g}; "
            f"expected one rate: put fps = {float(styled.fps):g} into the shot's shot.toml"
        )


def _is_done(work: _Work) -> bool:
    """Whether this very film was steadied to the end and the results are still there."""
    try:
        return work.video.is_file() and read_record(work.record).digest == _digest(work)
    except OutputError:  # no record, or not one of ours
        return False


def _make_frames(work: _Work, on_frame: OnFrame) -> int:
    """Every frame from the first that is missing on; returns their number."""
    total, digest = work.styled.num_frames, _frames_digest(work)
    with writing(work.folder):
        (work.folder / "frames").mkdir(parents=True, exist_ok=True)
        work.record.unlink(missing_ok=True)
        if _spent(work, digest) is None:
            for stale in (work.folder / "frames").glob("steady.*.png"):
                stale.unlink()
    before = _spent(work, digest) or 0.0
    _mark(work, digest, before)
    first = next((t for t in range(total) if not is_whole_png(work.frame(t))), total)
    start = max(0, first - COLOUR_REACH)
    on_frame(work.folder.name, first, total)
    started = time.perf_counter()
    try:
        if first < total:
            for t, frame in enumerate(
                fuse(_frames(work, start), skip=first - start, method=work.method), start=first
            ):
                write_png(work.frame(t), frame)
                on_frame(work.folder.name, t + 1, total)
    finally:  # a stopped run's frames stay, so its seconds count too
        _mark(work, digest, before + time.perf_counter() - started)
    return total - first


def _mark(work: _Work, digest: str, seconds: float) -> None:
    """Note whose frames the folder holds, and the seconds that all runs spent on them."""
    write_text(work.folder / "steady.json", json.dumps({"frames_digest": digest, "seconds": seconds}) + "\n")


def _spent(work: _Work, digest: str) -> float | None:
    """The seconds spent on these frames so far; None where the folder's frames are others."""
    try:
        mark = json.loads((work.folder / "steady.json").read_text(encoding="utf-8"))
        return float(mark["seconds"]) if mark["frames_digest"] == digest else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _frames(work: _Work, start: int) -> Iterator[Seen]:
    """The frames from `start` on with their ways; a window is held."""
    size = {"width": work.styled.width, "height": work.styled.height}
    ways = iterate_ways(work.shot, start=start, **size)
    backward: Step | None = None
    films = (each_frame(film, start=start, **size) for film in (work.styled, work.shot))
    for styled, source in zip(*films, strict=True):
        forward, next_backward = next(ways, (None, None))
        yield Seen(styled, source, forward, backward)
        backward = next_backward


def _files(work: _Work) -> list[Path]:
    """What is read of both: the films' pictures and the passes that tell the motion."""
    pictures = [*work.styled.passes["rgb"].files, *work.shot.passes["rgb"].files]
    return list(dict.fromkeys([*pictures, *used_files(work.shot)]))


def _frames_digest(work: _Work) -> str:
    """What decides the pixels."""
    stamps = [stamp(file, work.shot.root) for file in _files(work)]
    identity = [VERSION, work.method, stamps, repr(work.shot.motion), repr(work.shot.depth)]
    return hashlib.sha256(json.dumps(identity).encode("utf-8")).hexdigest()


def _digest(work: _Work) -> str:
    """What decides the result: the pixels, the rate and the sound."""
    sound = None if work.audio is None else stamp(work.audio, work.shot.root)
    identity = [_frames_digest(work), str(work.shot.fps), sound]
    return hashlib.sha256(json.dumps(identity).encode("utf-8")).hexdigest()


def _write_record(work: _Work) -> None:
    record = Record(
        shot=work.shot.name,
        digest=_digest(work),
        num_frames=work.styled.num_frames,
        fps=work.shot.fps,
        inputs=input_digests(_files(work), base=work.shot.root),
        settings={"method": work.method, "motion": motion_origin(work.shot), "styled": str(work.styled.root)},
        outputs=(work.video.name, "frames"),
        seconds={"frames": round(_spent(work, _frames_digest(work)) or 0.0, 3)},
    )
    write_record(work.record, record)


def _silent(name: str, done: int, total: int) -> None:
    """For callers that watch no progress."""
