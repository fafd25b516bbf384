"""Numbered files of one folder: which frames there are, which are missing, and their sizes."""

from __future__ import annotations

import logging
import re
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.errors import ShotError
from pipeline.image import JPEG_END, PNG_END, PNG_SIGNATURE
from pipeline.shot.exr import exr_size

log = logging.getLogger(__name__)

PNG_SUFFIXES = (".png",)
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
EXR_SUFFIXES = (".exr",)
NUMBERED = re.compile(r"^(?P<stem>.*?)(?P<number>\d+)$")
MOST_LISTED = 8  # ranges named in one message; a line has to stay a line
# JPEG start-of-frame markers (ITU-T T.81, table B.1): C0-CF without DHT (C4), JPG (C8) and DAC (CC).
JPEG_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def list_numbers(numbers: Iterable[int]) -> str:
    """Numbers as ranges for a message: 5, 7, 8, 9 -> "5, 7-9"."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    parts = [str(first) if first == last else f"{first}-{last}" for first, last in ranges[:MOST_LISTED]]
    more = len(ranges) - MOST_LISTED
    return ", ".join(parts) + (f" and {more} more ranges" if more > 0 else "")


def group_sequences(folder: Path, suffixes: Sequence[str]) -> dict[str, dict[int, Path]]:
    """The numbered files of a folder by stem and suffix ("shot_.png") -> frame number -> path, in order.

    Raises ShotError where one has a number twice; files without a number are passed over.
    """
    groups: dict[str, dict[int, Path]] = {}
    for path in sorted(folder.iterdir()):
        match = NUMBERED.match(path.stem)
        if path.suffix.lower() in suffixes and match is not None and not path.name.startswith("."):
            _add(
                folder, groups.setdefault(match["stem"] + path.suffix.lower(), {}), int(match["number"]), path
            )
    return {stem: dict(sorted(frames.items())) for stem, frames in groups.items()}


def _add(folder: Path, frames: dict[int, Path], number: int, path: Path) -> None:
    if number in frames:
        both = f"{frames[number].name} and {path.name}"
        raise ShotError(f"{folder}: frame {number} is there twice ({both}); expected one; remove the other")
    frames[number] = path


def find_sequence(folder: Path, suffixes: Sequence[str], *, hold: bool = False) -> dict[int, Path]:
    """The numbered files of `folder` with one of `suffixes`, frame number -> path, in order.

    The number is the last run of digits before the suffix; any start will do. Hidden files are passed over.
    With `hold` a missing frame is the one before it. Raises ShotError: no such files, a file without a
    number, two sequences, two files of one number, a gap.
    """
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    )
    if not paths:
        raise ShotError(
            f"{folder}: holds no {' or '.join(suffixes)} files; expected one per frame; export it"
        )
    frames: dict[int, Path] = {}
    stems: dict[str, Path] = {}
    for path in paths:
        match = NUMBERED.match(path.stem)
        if match is None:
            raise ShotError(
                f"{path}: no frame number in the name; expected one like rgb.0001.png; move it away"
            )
        stems.setdefault(match["stem"], path)
        number = int(match["number"])
        if len(stems) > 1:
            names = " and ".join(first.name for first in stems.values())
            raise ShotError(f"{folder}: holds two sequences ({names}); expected one; move the other away")
        _add(folder, frames, number, path)
    return without_gaps(folder, dict(sorted(frames.items())), hold=hold)


def sequence_numbers(folder: Path, suffixes: Sequence[str]) -> list[int]:
    """The frame numbers of a folder's files in order, gaps and all; nothing is checked."""
    matches = (
        NUMBERED.match(path.stem)
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )
    return sorted({int(match["number"]) for match in matches if match is not None})


def without_gaps(folder: Path, frames: dict[int, Path], *, hold: bool) -> dict[int, Path]:
    """`frames`, in order, once no number between is missing; with `hold` the frame before fills a gap.

    Raises ShotError that lists the missing numbers.
    """
    first, last = min(frames), max(frames)
    if last - first + 1 == len(frames):
        return frames
    missing = last - first + 1 - len(frames)
    if missing > 100 * len(frames):  # stray digits in a name, not a gap; a list would be endless
        raise ShotError(
            f"{folder}: {len(frames)} files numbered from {first} to {last}; expected no gaps; renumber"
        )
    gaps = list_numbers(set(range(first, last + 1)) - set(frames))
    if not hold:
        raise ShotError(
            f"{folder}: {missing} of frames {first}-{last} missing: {gaps}; expected no gaps; export them "
            'again, or set missing = "hold" in shot.toml'
        )
    log.warning("%s: frames %s are missing; the one before each is held", folder, gaps)
    filled: dict[int, Path] = {}
    for number in range(first, last + 1):
        filled[number] = frames.get(number) or filled[number - 1]
    return filled


def check_sizes(files: Sequence[Path], *, width: int, height: int, reference: Path) -> None:
    """Raise ShotError for the first file of another size than `reference`, or that is cut short."""
    for path in files:
        found = image_size(path)
        if found != (width, height):
            raise ShotError(
                f"{path}: {found[0]} x {found[1]} pixels; expected {width} x {height} as {reference.name}; "
                "export it at one size"
            )


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) of a PNG, JPEG or EXR from its header; ShotError when it is not one or is cut short."""
    if path.suffix.lower() in EXR_SUFFIXES:
        return exr_size(path)
    try:
        with path.open("rb") as file:
            head = file.read(32)
            if not head.startswith(PNG_SIGNATURE):
                file.seek(0)
                return _jpeg_size(path, file.read())
            file.seek(max(0, path.stat().st_size - 64))
            tail = file.read()
    except OSError as error:
        raise ShotError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if PNG_END not in tail:
        raise ShotError(f"{path}: the file is cut short ({path.stat().st_size} bytes); export it again")
    width, height = struct.unpack(">2I", head[16:24])  # PNG specification, IHDR
    return int(width), int(height)


def _jpeg_size(path: Path, data: bytes) -> tuple[int, int]:
    if not data.startswith(b"\xff\xd8"):
        raise ShotError(f"{path}: not a PNG or JPEG image ({len(data)} bytes); export it again")
    if JPEG_END not in data[-4096:]:
        raise ShotError(f"{path}: the file is cut short ({len(data)} bytes); export it again")
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in JPEG_FRAME_MARKERS:
            height, width = struct.unpack_from(">2H", data, position + 5)
            return int(width), int(height)
        is_fill = marker == 0xFF  # any number of FF may stand before a marker
        position += 1 if is_fill else 2 + struct.unpack_from(">H", data, position + 2)[0]
    raise ShotError(f"{path}: a JPEG without a frame header; it is corrupt; export it again")
