"""Where a shot's estimates are kept: beside it, by the digest of what decides them.

<shot>/.lookdev/dis-0123456789abcdef/motion/motion.0001.exr ...    for a folder
<folder>/.lookdev/clip.mp4/dis-...                                for the video <folder>/clip.mp4
OUT/.lookdev/<shot>/dis-...                                       where neither can be written

estimate.json in it is written last, so its presence means that all frames are there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.estimate.values import METHODS, Estimate
from pipeline.files import stamp, write_text
from pipeline.shot import PassSource, Shot
from pipeline.shot.encoding import LINEAR_DEPTH, NATIVE_MOTION
from pipeline.shot.folder import JOINTS_FILE

HIDDEN = ".lookdev"
MARK = "estimate.json"
VERSION = 2  # raise it when the code changes what comes out: old estimates are then not taken
SUFFIXES = {"motion": "exr", "visible": "png", "depth": "exr", "normal": "exr", "lineart": "png"}


def folder_of(shot: Shot, estimate: Estimate, *, fallback: Path | None = None) -> Path:
    """The folder of an estimate: where it is finished, else the first place that can be written.

    `fallback` is the results' folder, for shots that lie where nothing can be written.
    """
    name = _name(shot, estimate.method, estimate.weights_stamp)
    homes = [home / name for home in _homes(shot, fallback)]
    finished = (home for home in homes if is_finished(home))
    return next(finished, next((home for home in homes if _may_write(home)), homes[-1]))


def _homes(shot: Shot, fallback: Path | None) -> Iterator[Path]:
    yield shot.root / HIDDEN if shot.root.is_dir() else shot.root.parent / HIDDEN / shot.root.name
    if fallback is not None:
        yield fallback / HIDDEN / shot.name


def _may_write(folder: Path) -> bool:
    there = next(place for place in (folder, *folder.resolve().parents) if place.exists())
    return os.access(there, os.W_OK)


def _name(shot: Shot, method: str, weights: list[str | int] | None) -> str:
    """The method, and a digest of all that decides the estimate: pictures, passes that are read, weights."""
    names = ("rgb", *METHODS[method].from_passes)
    files = [file for name in names if name in shot.passes for file in shot.passes[name].files]
    stamps = [stamp(file, shot.root) for file in files]
    encodings = [repr(shot.motion), repr(shot.depth)]
    identity = [VERSION, method, weights, stamps, list(shot.frame_numbers), encodings]
    digest = hashlib.sha256(json.dumps(identity).encode("utf-8")).hexdigest()
    return f"{method}-{digest[:16]}"


def frame_file(folder: Path, name: str, number: int) -> Path:
    """The file of a frame of an estimated pass, by the frame's number."""
    return folder / name / f"{name}.{number:04d}.{SUFFIXES[name]}"


def is_finished(folder: Path) -> bool:
    """Whether every frame of an estimate is there."""
    return (folder / MARK).is_file()


def finish(folder: Path, estimate: Estimate, *, num_frames: int, seconds: float) -> None:
    """Mark an estimate as whole. Raises OutputError."""
    mark = {
        "method": estimate.method,
        "weights": estimate.weights_stamp,
        "origin": estimate.origin,
        "frames": num_frames,
        "seconds": round(seconds, 3),
    }
    write_text(folder / MARK, json.dumps(mark) + "\n")


def attached(shot: Shot, estimate: Estimate, folder: Path) -> Shot:
    """The shot with the passes of a finished estimate that it has not itself, as ordinary passes."""
    made = {name: _source(shot, folder, name, estimate.origin) for name in estimate.passes}
    made = {name: source for name, source in made.items() if name not in shot.passes}
    return dataclasses.replace(
        shot,
        passes={**shot.passes, **made},
        motion=NATIVE_MOTION if "motion" in made else shot.motion,
        depth=LINEAR_DEPTH if "depth" in made else shot.depth,
    )


def _source(shot: Shot, folder: Path, name: str, origin: str) -> PassSource:
    if name == "joints":
        return PassSource(name, (folder / JOINTS_FILE,), origin)
    return PassSource(name, tuple(frame_file(folder, name, n) for n in shot.frame_numbers), origin)


def with_finished(shot: Shot) -> Shot:
    """The shot with every estimate that lies finished beside it and is of its present files."""
    bare = shot
    for home in _homes(shot, None):
        for mark in sorted(home.glob(f"*/{MARK}")):
            table = json.loads(mark.read_text(encoding="utf-8"))
            method = table.get("method")
            if method in METHODS and mark.parent.name == _name(bare, method, table["weights"]):
                shot = attached(shot, Estimate(method), mark.parent)
    return shot
