"""The door of the shot room: a path becomes a `Shot`, of which `read` fetches windows."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import ShotError
from pipeline.shot.exr import channel_names, read_channels
from pipeline.shot.folder import check_size, open_folder
from pipeline.shot.read import read_file
from pipeline.shot.values import PassSource, Shot
from pipeline.shot.video import VIDEO_SUFFIXES
from pipeline.shot.video_probe import probe_video


def open_shot(path: Path, *, fill_gaps: bool = False, skip_bad: bool = False) -> Shot:
    """Open a shot folder, a folder of numbered images, or a video file. No pixels are held.

    `fill_gaps`: a missing frame is the one before it. `skip_bad`: every file is decoded once, and a damaged
    one is replaced likewise. What was filled is in the shot's notes. Raises ShotError (one line) for a
    missing path, an empty folder, gaps, files that are cut short, sizes or counts that differ between passes,
    a bad joints.json or shot.toml.
    """
    if path.is_dir():
        return open_folder(path, fill_gaps=fill_gaps, damage=_damage if skip_bad else None)
    if not path.exists():
        raise ShotError(f"{path}: no such file or folder; expected a shot folder or a video; check the path")
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise ShotError(f"{path}: not a shot; expected a folder or a video ({', '.join(VIDEO_SUFFIXES)})")
    facts = probe_video(path, fill_gaps=fill_gaps, skip_bad=skip_bad)
    num_frames = len(facts.index.shown or facts.index.pts)
    source = PassSource(name="rgb", files=(path,), origin="video", video=facts.index)
    return Shot(
        name=path.stem,
        root=path,
        num_frames=num_frames,
        fps=facts.fps,
        width=facts.width,
        height=facts.height,
        frame_numbers=tuple(range(num_frames)),
        passes={"rgb": source},
        audio=path if facts.has_audio else None,
        colours=facts.colours,
        notes=facts.notes,
    )


def _damage(shot: Shot, name: str, file: Path) -> str | None:
    """What is wrong with a pass's file, found by decoding it; None where it is fine."""
    try:
        check_size(file, (shot.width, shot.height), "as most frames")
        if name == "motion":  # whatever its encoding is, which may not have been probed yet
            read_channels(file, channel_names(file, shot.view), view=shot.view)
        else:
            read_file(shot, name, file)
    except ShotError as error:
        return str(error)
    return None
