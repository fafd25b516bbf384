"""OpenEXR files as named channels: float32 [H, W] arrays in, half or float scanline files (ZIP) out."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.errors import ShotError
from pipeline.files import write_bytes
from pipeline.image import Float32Array
from pipeline.shot.exr_header import Part, whole_parts

MOST_LISTED = 12  # channels named in a message


def write_channels(path: Path, channels: Mapping[str, Float32Array], *, half: bool = False) -> None:
    """Write float32 [H, W] channels of one size as a ZIP-compressed scanline EXR, whole or not at all.

    `half` stores 16-bit floats: 11 significant bits, at most 65504 (larger becomes inf). Raises OutputError.
    """
    import OpenEXR

    dtype = np.float16 if half else np.float32
    with np.errstate(over="ignore"):  # beyond half's range is inf, which depth reads as "nothing hit"
        planes = {name: np.ascontiguousarray(plane, dtype) for name, plane in channels.items()}
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    stream = io.BytesIO()  # into memory first, so that a full disk is Python's OSError and not a C++ message
    OpenEXR.File(header, planes, num_threads=0).write(stream)
    write_bytes(path, stream.getvalue())


def read_channels(
    path: Path, names: Sequence[str], *, outside: float = 0.0, view: str | None = None
) -> list[Float32Array]:
    """The channels `names` of an EXR as float32 [H, W], in that order, covering the display window.

    A name is met exactly or as the end of one ("Vector.X" finds "ViewLayer.Vector.X"), in any part, among
    those of `view` (default: the file's first). `outside` fills what lies outside the data window; channels
    at half the size (chroma) are enlarged. Raises ShotError when the file is missing, cut short or corrupt,
    or does not have each channel just once.
    """
    import OpenEXR

    parts = whole_parts(path)
    found = [_find_channel(path, parts, name, view) for name in names]
    try:
        with OpenEXR.File(str(path), separate_channels=True, num_threads=0) as file:
            stored = [np.asarray(file.parts[part].channels[name].pixels) for part, name in found]
            planes = [
                _on_display(path, parts[part], name, pixels, outside)
                for (part, name), pixels in zip(found, stored, strict=True)
            ]
    except (RuntimeError, ValueError, OSError, KeyError, IndexError) as error:
        raise ShotError(
            f"{path}: the EXR is corrupt (its pixels cannot be decoded); export it again"
        ) from error
    return planes


def _find_channel(path: Path, parts: list[Part], name: str, view: str | None) -> tuple[int, str]:
    """The part's number and the channel's own name for `name`, by exact name, else by ending."""
    view = chosen_view(path, parts, view)
    every = [
        (number, channel, part.bare(channel))
        for number, part in enumerate(parts)
        for channel in part.channels
        if part.view_of(channel) == view
    ]
    for matches in (
        [(number, channel) for number, channel, full in every if name in (full, channel)],
        [(number, channel) for number, channel, full in every if full.endswith(f".{name}")],
    ):
        if len(matches) == 1:
            return matches[0]
        if len(matches) > 1:
            raise ShotError(
                f"{path}: {len(matches)} channels are called {name} "
                f"({', '.join(parts[number].full(channel) for number, channel in matches[:4])}); "
                'expected one; set layer = "..." in shot.toml, or give its whole name'
            )
    raise ShotError(
        f"{path}: holds the channels {listed(sorted(full for _, _, full in every))}; expected {name}; "
        "export the pass with these channel names"
    )


def listed(names: Sequence[str]) -> str:
    """Names for a message, the first dozen of them."""
    more = len(names) - MOST_LISTED
    return ", ".join(names[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def view_names(parts: Sequence[Part]) -> tuple[str, ...]:
    """The views of a file, its default one first; ("",) where it has one and says no name."""
    names = dict.fromkeys(name for part in parts for name in part.views)
    names |= dict.fromkeys(part.view_of(channel) for part in parts for channel in part.channels)
    return tuple(names)


def chosen_view(path: Path, parts: Sequence[Part], view: str | None) -> str:
    """`view`, or the file's first where none is asked for. Raises ShotError where it has no such view."""
    views = view_names(parts)
    if view is None or views == ("",):
        return views[0]
    if view not in views:
        raise ShotError(f"{path}: has no view {view!r}; expected {', '.join(views)}; set view in shot.toml")
    return view


def _on_display(path: Path, part: Part, name: str, pixels: Any, outside: float) -> Float32Array:
    """A channel's pixels, which cover the data window, placed on the display window; own memory."""
    (x0, y0, x1, y1), (left, top, right, bottom) = part.data, part.display
    height, width = y1 - y0 + 1, x1 - x0 + 1
    step_x, step_y = part.samplings[part.channels.index(name)]
    if pixels.shape != (-(-height // step_y), -(-width // step_x)):
        raise ShotError(
            f"{path}: channel {name} is {pixels.shape[1]} x {pixels.shape[0]} of {width} x {height}; "
            "expected its sampling's size; export it without subsampling"
        )
    if (step_x, step_y) != (1, 1):
        pixels = cv2.resize(pixels.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    plane = np.full((bottom - top + 1, right - left + 1), outside, np.float32)
    rows, columns = slice(max(y0, top), min(y1, bottom) + 1), slice(max(x0, left), min(x1, right) + 1)
    if rows.start < rows.stop and columns.start < columns.stop:
        plane[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = pixels[
            rows.start - y0 : rows.stop - y0, columns.start - x0 : columns.stop - x0
        ]
    return plane


def channel_names(path: Path, view: str | None = None) -> list[str]:
    """The names of an EXR's channels in a view, part by part in the file's order. Raises ShotError."""
    parts = whole_parts(path)
    view = chosen_view(path, parts, view)
    return [part.bare(each) for part in parts for each in part.channels if part.view_of(each) == view]


def exr_size(path: Path) -> tuple[int, int]:
    """(width, height) of an EXR's display window, after checking from its own tables that the file is whole.

    The check reads only the header, so `open_shot` affords it for every frame; without it a cut file is found
    hours later, at its frame. Raises ShotError.
    """
    left, top, right, bottom = whole_parts(path)[0].display
    return right - left + 1, bottom - top + 1
