"""The headers of an OpenEXR file, read without its library: channels, windows, views, is it whole.

OpenEXR file layout (openexr.com, "OpenEXR File Layout") is the source of every number here. The library would
read the pixels' tables too, and aborts on some damaged files; a header costs one read of a few kB.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ShotError

MAGIC = 20000630
TILED, DEEP, MULTI_PART = 0x200, 0x800, 0x1000  # flag bits of the version field
HEADER_BYTES = 1 << 16  # read first; real headers are a few kB
LONGEST_HEADER = 1 << 24  # read on to here where a long manifest makes it necessary
# Lines in one chunk by compression code; a code that is not here is read without the check.
CHUNK_LINES = {0: 1, 1: 1, 2: 1, 3: 16, 4: 32, 5: 16, 6: 32, 7: 32, 8: 32, 9: 256}


@dataclass(frozen=True)
class Part:
    """One part's header.

    `channels`: names, with `samplings` (x, y) of 1 for full size. `data`, `display`: windows x0, y0, x1, y1,
    ends included. `chunks`: their number, None where tiles hide it. `view`: the part's own; `views`: those of
    its channels, the default first. `texts`: its text attributes (a Cryptomatte's manifest).
    """

    name: str
    channels: tuple[str, ...]
    samplings: tuple[tuple[int, int], ...]
    data: tuple[int, ...]
    display: tuple[int, ...]
    chunks: int | None
    view: str
    views: tuple[str, ...]
    texts: Mapping[str, str]

    def full(self, channel: str) -> str:
        """The channel's name with its part's in front, unless it is there already (Blender 5 and before)."""
        return f"{self.name}.{channel}" if self.name and not channel.startswith(self.name) else channel

    def view_of(self, channel: str) -> str:
        """The view that a channel shows; "" in a file with one."""
        said = (piece for piece in self.full(channel).split(".") if piece in self.views)
        return self.view or next(said, self.views[0] if self.views else "")

    def bare(self, channel: str) -> str:
        """The channel's full name without its view: "ViewLayer.Depth.left.Z" is "ViewLayer.Depth.Z"."""
        views = {self.view, *self.views} - {""}
        return ".".join(piece for piece in self.full(channel).split(".") if piece not in views)


def whole_parts(path: Path) -> list[Part]:
    """The headers of all parts, after checking that the last chunk they list lies inside the file.

    Raises ShotError when the file is missing, no EXR, deep, cut short or corrupt.
    """
    parts, offsets, is_multi = _read_headers(path)
    if offsets is not None:
        _check_whole(path, offsets, leader_bytes=4 if is_multi else 0)
    return parts


def _read_headers(path: Path) -> tuple[list[Part], bytes | None, bool]:
    try:
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
            if not head:
                raise ShotError(f"{path}: the file is empty; expected an EXR; export it again")
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
    # attributes are name\0 type\0 size data; an empty name ends the list
    found: dict[str, tuple[str, bytes]] = {}
    while (end := head.index(b"\0", position)) > position:
        name = head[position:end].decode("latin-1")
        type_end = head.index(b"\0", end + 1)
        kind = head[end + 1 : type_end].decode("latin-1")
        (size,) = struct.unpack_from("<i", head, type_end + 1)
        start = type_end + 5
        if size < 0 or start + size > len(head):
            raise ValueError("an attribute ends beyond the header")
        found[name] = (kind, head[start : start + size])
        position = start + size
    data, display = (struct.unpack("<4i", found[key][1]) for key in ("dataWindow", "displayWindow"))
    if min(data[2] - data[0], data[3] - data[1], display[2] - display[0], display[3] - display[1]) < 0:
        raise ValueError("an empty window")
    lines = CHUNK_LINES.get(found["compression"][1][0])
    chunks = None if lines is None else -(-(data[3] - data[1] + 1) // lines)
    if _text(found, "type").startswith("tiled"):
        chunks = None
    channels, samplings = _parse_channels(found["channels"][1])
    part = Part(
        name=_text(found, "name"),
        channels=channels,
        samplings=samplings,
        data=data,
        display=display,
        chunks=chunks,
        view=_text(found, "view"),
        views=_words(found["multiView"][1]) if "multiView" in found else (),
        texts={
            name: value.decode("utf-8", "replace")
            for name, (kind, value) in found.items()
            if kind == "string"
        },
    )
    return part, position + 1


def _text(found: Mapping[str, tuple[str, bytes]], name: str) -> str:
    return found[name][1].decode("latin-1") if name in found else ""


def _words(data: bytes) -> tuple[str, ...]:
    """A stringvector attribute."""
    words, position = [], 0
    while position < len(data):
        (size,) = struct.unpack_from("<i", data, position)
        if size < 0 or position + 4 + size > len(data):
            raise ValueError("a word ends beyond its list")
        words.append(data[position + 4 : position + 4 + size].decode("latin-1"))
        position += 4 + size
    return tuple(words)


def _parse_channels(table: bytes) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
    names, samplings, position = [], [], 0
    while (end := table.index(b"\0", position)) > position:
        names.append(table[position:end].decode("latin-1"))
        x, y = struct.unpack_from("<2i", table, end + 9)  # after \0, pixel type, linear flag and padding
        if x < 1 or y < 1:
            raise ValueError("a sampling below 1")
        samplings.append((x, y))
        position = end + 17
    return tuple(names), tuple(samplings)


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
