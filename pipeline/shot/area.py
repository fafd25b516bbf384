"""A part of each frame: figures or objects of the ids pass, drawn masks, or a box."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ShotError
from pipeline.image import Float32Array, UInt32Array, read_image
from pipeline.shot.read import read_pass
from pipeline.shot.sequence import IMAGE_SUFFIXES, find_sequence, list_numbers
from pipeline.shot.values import Shot

FIGURE_STEP = 256  # in the ids pass, value = 256 * figure + body part


@dataclass(frozen=True)
class Area:
    """Which pixels; one of the four is given.

    `figures`: figure numbers, each with all its parts. `ids`: values of the ids pass as they are. `masks`:
    one picture for each frame of the shot, white inside. `box`: left, top, right, bottom as shares of width
    and height.
    """

    figures: tuple[int, ...] = ()
    ids: tuple[int, ...] = ()
    masks: tuple[Path, ...] = ()
    box: tuple[float, float, float, float] | None = None

    @property
    def needs_ids(self) -> bool:
        """Whether it is read from the ids pass."""
        return bool(self.figures or self.ids)


def mask_files(shot: Shot, path: Path) -> tuple[Path, ...]:
    """One mask for each frame of the shot: a folder's by the numbers on disk; one file is for all frames.

    Raises ShotError for what is not there, frames without a mask, and as `find_sequence`.
    """
    if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
        return (path,) * shot.num_frames
    if not path.is_dir():
        raise ShotError(f"{path}: no such mask; expected a PNG or JPEG, or a folder with one for each frame")
    found = find_sequence(path, IMAGE_SUFFIXES)
    missing = set(shot.frame_numbers) - set(found)
    if missing:
        raise ShotError(
            f"{path}: has no mask for frames {list_numbers(missing)} of {shot.name}; expected one for each "
            "frame, black where there is nothing"
        )
    return tuple(found[number] for number in shot.frame_numbers)


def read_area(shot: Shot, area: Area, start: int, stop: int) -> list[Float32Array]:
    """The area in frames [start, stop): float32 [H, W] in [0, 1] each, masks in their own size.

    Raises ShotError for a shot without the ids pass and for an unreadable file.
    """
    if area.needs_ids:
        ids: UInt32Array = read_pass(shot, "ids", start, stop)
        return list(_of_ids(area, ids).astype(np.float32))
    if area.masks:
        return [
            read_image(file, error=ShotError).max(-1) / np.float32(255) for file in area.masks[start:stop]
        ]
    assert area.box is not None
    return [_box(area.box, shot.height, shot.width)] * (stop - start)


def _of_ids(area: Area, ids: UInt32Array) -> NDArray[np.bool_]:
    if area.figures:
        return np.isin(ids // FIGURE_STEP, area.figures)
    return np.isin(ids, area.ids)


def _box(box: tuple[float, float, float, float], height: int, width: int) -> Float32Array:
    """Each pixel's share inside the box."""
    left, top, right, bottom = box
    inside: Float32Array = np.outer(_covered(top, bottom, height), _covered(left, right, width))
    return inside


def _covered(begin: float, end: float, count: int) -> Float32Array:
    """How much of each of `count` cells of [0, 1] lies in [begin, end]."""
    edges = np.arange(count + 1) / count
    covered = np.minimum(edges[1:], end) - np.maximum(edges[:-1], begin)
    shares: Float32Array = np.clip(covered * count, 0.0, 1.0).astype(np.float32)
    return shares
