"""OpenEXR files as named channels: float32 [H, W] arrays in, half or float scanline files (ZIP) out."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ShotError
from pipeline.files import write_bytes
from pipeline.image import Float32Array

MAGIC = 20000630  # OpenEXR file layout, "Magic Number"
TILED, DEEP, MULTI_PART = 0x200, 0x800, 0x1000  # flag bits of the version field (same source)
HEADER_BYTES = 1 << 16  # read first; real headers are a few kB
LONGEST_HEADER = 1 << 24  # read on to here where a long manifest makes it necessary
MOST_LISTED = 12  # channels named in a message
# Lines in one chunk by compression code (same source); a code that is not here is read without the check.
CHUNK_LINES = {0: 1, 1: 1, 2: 1, 3: 16, 4: 32, 5: 16, 6: 32, 7: 32, 8: 32, 9: 256}


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


def read_channels(path: Path, names: Sequence[str], *, outside: float = 0.0) -> list[Float32Array]:
    """The channels `names` of an EXR as float32 [H, W], in that order, covering the display window.

    A name is met exactly or as the end of one ("Vector.X" finds "ViewLayer.Vector.X"), in any part; `outside`
    fills what lies outside the data window. Raises ShotError when the file is missing, cut short or corrupt,
    or does not have each channel just once.
    """
    import OpenEXR

    parts = _whole_parts(path)
    found = [_find_channel(path, parts, name) for name in names]
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


def _find_channel(path: Path, parts: list[Part], name: str) -> tuple[int, str]:
    """The part's number and the channel's own name for `name`, by exact name, else by ending."""
    every = [
        (number, channel, part.full(channel))
        for number, part in enumerate(parts)
        for channel in part.channels
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
                "expected one; give its whole name, or export one view"
            )
    held = sorted(full for _, _, full in every)
    listed = ", ".join(held[:MOST_LISTED]) + (
        f" and {len(held) - MOST_LISTED} more" if len(held) > MOST_LISTED else ""
    )
    raise ShotError(
        f"{path}: holds the channels {listed}; expected {name}; export the pass with these channel names"
    )


def _on_display(path: Path, part: Part, name: str, pixels: Any, outside: float) -> Float32Array:
    """A channel's pixels, which cover the data window, placed on the display window; own memory."""
    (x0, y0, x1, y1), (left, top, right, bottom) = part.data, part.display
    height, width = y1 - y0 + 1, x1 - x0 + 1
    if pixels.shape != (height, width):
        raise ShotError(
            f"{path}: channel {name} is {pixels.shape[1]} x {pixels.shape[0]} of {width} x {height}; "
            "expected full-size channels; export it without subsampling"
        )
    plane = np.full((bottom - top + 1, right - left + 1), outside, np.float32)
    rows, columns = slice(max(y0, top), min(y1, bottom) + 1), slice(max(x0, left), min(x1, right) + 1)
    if rows.start < rows.stop and columns.start < columns.stop:
        plane[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = pixels[
            rows.start - y0 : rows.stop - y0, columns.start - x0 : columns.stop - x0
        ]
    return plane


def channel_names(path: Path) -> list[str]:
    """The names of an EXR's channels, part by part in the file's order. Raises ShotError."""
    return [part.full(channel) for part in _whole_parts(path) for channel in part.channels]


def exr_size(path: Path) -> tuple[int, int]:
    """(width, height) of an EXR's display window, after checking from its own tables that the file is whole.

    The check reads only the header, so `open_shot` affords it for every frame; without it a cut file is found
    hours later, at its frame. Raises ShotError.
    """
    left, top, right, bottom = _whole_parts(path)[0].display
    return right - left + 1, bottom - top + 1


@dataclass(frozen=True)
class Part:
    """One part's header: channel names, windows x0, y0, x1, y1, and its number of chunks (None: unknown)."""

    name: str
    channels: tuple[str, ...]
    data: tuple[int, ...]
    display: tuple[int, ...]
    chunks: int | None

    def full(self, channel: str) -> str:
        """The channel's name with its part's in front, unless it is there already (Blender 5 and before)."""
        return f"{self.name}.{channel}" if self.name and not channel.startswith(self.name) else channel


def _whole_parts(path: Path) -> list[Part]:
    """The headers of all parts, after checking that the last chunk they list lies inside the file."""
    parts, offsets, is_multi = _read_headers(path)
    if offsets is not None:
        _check_whole(path, offsets, leader_bytes=4 if is_multi else 0)
    return parts


def _read_headers(path: Path) -> tuple[list[Part], bytes | None, bool]:
    try:
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
            if len(head) < 8 or struct.unpack_from("<I", head)[0] != MAGIC:
                raise ShotError(f"{path}: not an OpenEXR file; export the pass again as EXR")
            if struct.unpack_from("<I", head, 4)[0] & DEEP:
                raise ShotError(f"{path}: a deep EXR; expected a flat one; flatten it when exporting")
            try:
                return _parse_headers(head)
            except (struct.error, ValueError, IndexError):  # a longer header, or a corrupt one
                return _parse_headers(head + file.read(LONGEST_HEADER))
    except OSError as error:
        raise ShotError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (struct.error, ValueError, IndexError, KeyError) as error:
        raise ShotError(f"{path}: the EXR header is cut short or corrupt; export it again") from error


def _parse_headers(head: bytes) -> tuple[list[Part], bytes | None, bool]:
    """All parts, their chunk offset tables as one (None where tiles hide its length), and if multi-part."""
    (version,) = struct.unpack_from("<I", head, 4)
    is_multi, parts, position = bool(version & MULTI_PART), [], 8
    while True:
        part, position = _parse_part(head, position)
        parts.append(part)
        if not is_multi or head[position] == 0:  # an empty header ends the list of a multi-part file
            break
    position += 1 if is_multi else 0
    if version & TILED or any(part.chunks is None for part in parts):
        return parts, None, is_multi
    num_bytes = 8 * sum(part.chunks or 0 for part in parts)
    table = head[position : position + num_bytes]
    if len(table) < num_bytes:
        raise ValueError("the offset table ends early")
    return parts, table, is_multi


def _parse_part(head: bytes, position: int) -> tuple[Part, int]:
    # OpenEXR file layout: attributes are name\0 type\0 size data; an empty name ends the list.
    found: dict[str, bytes] = {}
    while (name_end := head.index(b"\0", position)) > position:
        type_end = head.index(b"\0", name_end + 1)
        (size,) = struct.unpack_from("<I", head, type_end + 1)
        start = type_end + 5
        found[head[position:name_end].decode("latin-1")] = head[start : start + size]
        position = start + size
    data, display = (struct.unpack("<4i", found[key]) for key in ("dataWindow", "displayWindow"))
    if min(data[2] - data[0], data[3] - data[1], display[2] - display[0], display[3] - display[1]) < 0:
        raise ValueError("an empty window")
    lines = CHUNK_LINES.get(found["compression"][0])
    chunks = None if lines is None else -(-(data[3] - data[1] + 1) // lines)
    if found.get("type", b"").startswith(b"tiled"):
        chunks = None
    name = found.get("name", b"").decode("latin-1")
    return Part(name, _parse_channels(found["channels"]), data, display, chunks), position + 1


def _parse_channels(table: bytes) -> tuple[str, ...]:
    names, position = [], 0
    while (end := table.index(b"\0", position)) > position:
        names.append(table[position:end].decode("latin-1"))
        position = end + 17  # \0, pixel type, flags, two samplings
    return tuple(names)


def _check_whole(path: Path, table: bytes, *, leader_bytes: int) -> None:
    """Raise ShotError unless the last chunk of the offset table ends inside the file."""
    offsets = struct.unpack(f"<{len(table) // 8}Q", table)
    first, last = min(offsets), max(offsets)  # a writer that was killed leaves zeros
    with path.open("rb") as file:
        total = file.seek(0, io.SEEK_END)
        file.seek(min(last, total) + leader_bytes)  # the part's number
        leader = file.read(8)  # y coordinate and packed size
    whole = first > 0 and len(leader) == 8
    whole = whole and last + leader_bytes + 8 + struct.unpack("<2i", leader)[1] <= total
    if not whole:
        raise ShotError(f"{path}: the file is cut short ({total} bytes); export it again")
