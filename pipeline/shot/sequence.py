"""Numbered files of one folder: which frames there are, which are missing, and their sizes."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import ShotError
from pipeline.image import JPEG_END, PNG_END, PNG_SIGNATURE
from pipeline.shot.exr import exr_size

PNG_SUFFIXES = (".png",)
TIFF_SUFFIXES = (".tif", ".tiff")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", *TIFF_SUFFIXES)
EXR_SUFFIXES = (".exr",)
NUMBERED = re.compile(r"^(?P<stem>.*?)(?P<number>\d+)$")
MOST_LISTED = 8  # ranges named in one message; a line has to stay a line
STRIP_OFFSETS, STRIP_BYTES = 273, 279  # TIFF 6.0
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


def find_sequence(folder: Path, suffixes: Sequence[str]) -> dict[int, Path]:
    """The numbered files of `folder` with one of `suffixes`, frame number -> path, in order.

    The number is the last run of digits before the suffix; any start will do. Hidden files are passed over.
    Raises ShotError: no such files, a file without a number, two sequences, two files of one number, a gap.
    """
    frames = list_sequence(folder, suffixes)
    check_gaps(folder, frames)
    return frames


def list_sequence(folder: Path, suffixes: Sequence[str]) -> dict[int, Path]:
    """As `find_sequence`, gaps and all."""
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
    return dict(sorted(frames.items()))


def sequence_numbers(folder: Path, suffixes: Sequence[str]) -> list[int]:
    """The frame numbers of a folder's files in order, gaps and all; nothing is checked."""
    matches = (
        NUMBERED.match(path.stem)
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )
    return sorted({int(match["number"]) for match in matches if match is not None})


def missing_numbers(folder: Path, frames: Mapping[int, Path]) -> set[int]:
    """The frame numbers that lack between the first and the last. Raises ShotError for stray digits."""
    first, last = min(frames), max(frames)
    missing = last - first + 1 - len(frames)
    if missing > 100 * len(frames):  # stray digits in a name, not a gap; a list would be endless
        raise ShotError(
            f"{folder}: {len(frames)} files numbered from {first} to {last}; expected no gaps; renumber"
        )
    return set(range(first, last + 1)) - set(frames) if missing else set()


def check_gaps(folder: Path, frames: Mapping[int, Path]) -> None:
    """Raise ShotError that lists the missing numbers, if there are any."""
    missing = missing_numbers(folder, frames)
    if missing:
        raise ShotError(
            f"{folder}: {len(missing)} of frames {min(frames)}-{max(frames)} missing: "
            f"{list_numbers(missing)}; expected no gaps; export them again, take --fill-gaps, or "
            'set missing = "hold" in shot.toml'
        )


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) of a PNG, JPEG, TIFF or EXR from its header.

    Raises ShotError when it is none of them, empty, cut short or not to be read.
    """
    suffix = path.suffix.lower()
    if suffix in EXR_SUFFIXES:
        return exr_size(path)
    try:
        with path.open("rb") as file:
            head = file.read(32)
            size = file.seek(0, io.SEEK_END)
            if not head:
                raise ShotError(f"{path}: the file is empty; expected an image; export it again")
            if suffix in TIFF_SUFFIXES:
                return _tiff_size(path, file, head, size)
            if not head.startswith(PNG_SIGNATURE):
                file.seek(0)
                return _jpeg_size(path, file.read())
            file.seek(max(0, size - 64))
            tail = file.read()
    except OSError as error:
        raise ShotError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if PNG_END not in tail:
        raise ShotError(f"{path}: the file is cut short ({size} bytes); export it again")
    width, height = struct.unpack(">2I", head[16:24])  # PNG specification, IHDR
    return int(width), int(height)


def _tiff_size(path: Path, file: BinaryIO, head: bytes, size: int) -> tuple[int, int]:
    """TIFF 6.0, section 2: the first directory's tags 256 and 257, and that its strips end in the file."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4])
    if order is None:
        raise ShotError(f"{path}: not a TIFF image ({size} bytes); export it again")
    try:
        tags = _tiff_tags(file, order, head)
        if sum(tags.get(STRIP_BYTES, [0])) > size or max(tags.get(STRIP_OFFSETS, [0])) >= size:
            raise ValueError("strips end beyond the file")
        return tags[256][0], tags[257][0]
    except (struct.error, ValueError, KeyError, IndexError) as error:
        raise ShotError(
            f"{path}: the file is cut short or corrupt ({size} bytes); export it again"
        ) from error


def _tiff_tags(file: BinaryIO, order: str, head: bytes) -> dict[int, tuple[int, ...]]:
    """The whole-number tags of the first directory."""
    file.seek(struct.unpack_from(f"{order}I", head, 4)[0])
    (count,) = struct.unpack(f"{order}H", file.read(2))
    entries = file.read(12 * count)
    tags = {}
    for index in range(count):
        tag, kind, length = struct.unpack_from(f"{order}HHI", entries, 12 * index)
        letter = {3: "H", 4: "I"}.get(kind)
        if letter is None:
            continue
        form = f"{order}{length}{letter}"
        data = entries[12 * index + 8 : 12 * index + 12]
        if struct.calcsize(form) > 4:
            file.seek(struct.unpack(f"{order}I", data)[0])
            data = file.read(struct.calcsize(form))
        tags[tag] = struct.unpack_from(form, data)
    return tags


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
