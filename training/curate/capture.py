"""Candidate training images out of a film: frames that differ, a contact sheet, a dataset file to go on with.

look through the film -> spread over what differs -> write the frames, whole and untouched

OUT/images/000123.png   frame 123 of the film     OUT/sheet.png      all of them at a glance
OUT/joints.json         where the film has joints OUT/dataset.toml   to be filled in
OUT/capture.json        where each image is from
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from pipeline.errors import DatasetError, OutputError
from pipeline.files import write_text
from pipeline.image import UInt8Array, resize, write_png
from pipeline.output import write_contact_sheet
from pipeline.shot import FrameJoints, Shot, read_frames, read_joints, write_joints
from training.curate.detect import Detect
from training.curate.film import Candidate, Film, OnFrame, find_candidates
from training.curate.spread import choose_spread
from training.curate.views import framing_of, main_figure, view_of

log = logging.getLogger(__name__)
LOOKED_AT = 6
_CELL, _COLUMNS, _STRIP = 160, 5, 16  # pixels of a cell's height, cells in a row, pixels of the text below


@dataclass(frozen=True)
class Captured:
    """What was taken, and from how much."""

    images: tuple[Path, ...]
    sheet: Path
    film: Film
    dataset: Path


def capture(
    shot: Shot, out: Path, *, count: int, detect: Detect | None = None, on_frame: OnFrame | None = None
) -> Captured:
    """Take up to `count` frames of `shot` into `out`. The same film gives the same files.

    `detect` finds joints where the film has none, on `LOOKED_AT` times as many frames as are taken.

    Raises `DatasetError` where no frame can be used, `ShotError` for one that cannot be read, `OutputError`
    where `out` holds a dataset already or the system refuses.
    """
    target = out / "dataset.toml"
    for taken in (target, out / "images"):
        if taken.exists():
            raise OutputError(f"{taken}: is there already; choose another folder with --out")
    film = find_candidates(shot, on_frame=on_frame)
    if not film.candidates:
        why = ", ".join(f"{number} {reason}" for reason, number in film.passed_over.items())
        raise DatasetError(f"{shot.root}: none of {shot.num_frames} frames can be used: {why}")
    candidates: Sequence[Candidate] = film.candidates
    if detect is not None and "joints" not in shot.passes:
        candidates = choose_spread(candidates, LOOKED_AT * count)
    joints = _joints(shot, candidates, detect)
    chosen = sorted(choose_spread(candidates, count, joints), key=lambda each: each.index)
    digits = max(6, len(str(max(shot.frame_numbers))))
    images, cells, records, known = [], [], [], []
    for each in chosen:
        (frame,) = read_frames(shot, each.index, each.index + 1)
        number = shot.frame_numbers[each.index]
        path = out / "images" / f"{number:0{digits}d}.png"
        write_png(path, frame)
        images.append(path)
        seen = joints.get(each.index)
        cells.append(_cell(frame, f"{number} {_seen(seen)}"))
        if seen is not None:
            known.append(replace(seen, frame=number))
        seconds = round(float(each.index / shot.fps), 3)
        sharpness = round(each.measures.sharpness, 3)
        records.append({"image": path.name, "frame": number, "seconds": seconds, "sharpness": sharpness})
    if known:
        write_joints(out / "joints.json", known)
    sheet = out / "sheet.png"
    _write_sheet(sheet, cells)
    write_text(out / "capture.json", json.dumps({"film": shot.name, "images": records}, indent=1) + "\n")
    write_text(target, skeleton(out.resolve().name))
    return Captured(tuple(images), sheet, film, target)


def skeleton(name: str) -> str:
    """A dataset file to be filled in."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_") or "concept"
    return (
        'model = "mini"  # your checkpoint: a file or folder, from here on\n'
        f"name = {json.dumps(plain)}\n\n[[concept]]\n"
        f"trigger = {json.dumps(plain)}  # choose a made-up word\n"
        'class = "person"\nkind = "character"  # character, place, style or object\nimages = "images"\n'
        "invariant = []  # what belongs to the concept and is never captioned\n"
        "variable = []  # what changes from image to image and is captioned\n\n[train]\n"
    )


def _joints(shot: Shot, candidates: Sequence[Candidate], detect: Detect | None) -> Mapping[int, FrameJoints]:
    """The joints of the candidates by frame index; empty where neither film nor detector gives any."""
    if "joints" not in shot.passes:
        if detect is None:
            return {}
        return {each.index: detect(read_frames(shot, each.index, each.index + 1)[0]) for each in candidates}
    return {each.index: read_joints(shot, each.index, each.index + 1)[0] for each in candidates}


def _seen(joints: FrameJoints | None) -> str:
    figure = None if joints is None else main_figure(joints)
    if joints is None or figure is None:
        return ""
    return f"{view_of(figure, joints.camera) or ''} {framing_of(figure)}"


def _cell(frame: UInt8Array, text: str) -> UInt8Array:
    width = max(1, round(frame.shape[1] * _CELL / frame.shape[0]))
    picture = np.asarray(resize(frame, height=_CELL, width=width), np.uint8)
    strip = np.zeros((_STRIP, width, 3), np.uint8)
    cv2.putText(strip, text, (3, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (255, 255, 255), 1, cv2.LINE_AA)
    return np.concatenate([picture, strip])


def _write_sheet(path: Path, cells: Sequence[UInt8Array]) -> None:
    blank = np.zeros_like(cells[0])
    padded = [*cells, *[blank] * (-len(cells) % _COLUMNS)]
    rows = [padded[start : start + _COLUMNS] for start in range(0, len(padded), _COLUMNS)]
    write_contact_sheet(path, rows, [""] * _COLUMNS)
