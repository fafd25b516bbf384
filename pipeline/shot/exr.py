"""OpenEXR files as named channels: float32 [H, W] arrays in, half or float scanline files (ZIP) out."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
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


def read_channels(path: Path, names: Sequence[str]) -> list[Float32Array]:
    """The channels `names` of an EXR as float32 [H, W], in that order, covering the display window.

    Raises ShotError when the file is missing, cut short or corrupt, or lacks a channel.
    """
    import OpenEXR

    width, height = exr_size(path)
    try:
        with OpenEXR.File(str(path), separate_channels=True, num_threads=0) as file:
            found: dict[str, Any] = {name: channel.pixels for name, channel in file.channels().items()}
            missing = [name for name in names if name not in found]
            if missing:
                raise ShotError(
                    f"{path}: holds the channels {', '.join(sorted(found))}; expected {', '.join(names)}; "
                    "export the pass with these channel names"
                )
            planes = [np.array(found[name], np.float32) for name in names]  # own memory, not the file's
    except (RuntimeError, ValueError, OSError) as error:
        raise ShotError(
            f"{path}: the EXR is corrupt (its pixels cannot be decoded); export it again"
        ) from error
    for name, plane in zip(names, planes, strict=True):
        if plane.shape != (height, width):
            raise ShotError(
                f"{path}: channel {name} is {plane.shape[1]} x {plane.shape[0]} of {width} x {height}; "
                "expected full-size channels; export it without subsampling"
            )
    return planes


def channel_names(path: Path) -> list[str]:
    """The names of an EXR's channels, in the file's order. Raises ShotError."""
    import OpenEXR

    exr_size(path)
    try:
        with OpenEXR.File(str(path), separate_channels=True, header_only=True) as file:
            return [str(channel.name) for channel in file.header()["channels"]]
    except (RuntimeError, ValueError, OSError) as error:
        raise ShotError(f"{path}: the EXR header is corrupt; export it again") from error


def exr_size(path: Path) -> tuple[int, int]:
    """(width, height) of an EXR, after checking from its own offset table that the file is whole.

    The check reads only the header, so `open_shot` affords it for every frame; without it a cut file is found
    hours later, at its frame. Raises ShotError.
    """
    header, table = _read_header(path)
    data, display = header["dataWindow"], header["displayWindow"]
    if data != display:
        raise ShotError(
            f"{path}: its data window {data} differs from its display window {display}; "
            "expected the same; export the pass uncropped"
        )
    if table is not None:
        _check_whole(path, table)
    return data[2] - data[0] + 1, data[3] - data[1] + 1


Windows = dict[str, tuple[int, ...]]


def _read_header(path: Path) -> tuple[Windows, bytes | None]:
    """The windows of an EXR and, where the file is one plain scanline part, its chunk offset table."""
    try:
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
            if len(head) < 8 or struct.unpack_from("<I", head)[0] != MAGIC:
                raise ShotError(f"{path}: not an OpenEXR file; export the pass again as EXR")
            if struct.unpack_from("<I", head, 4)[0] & DEEP:
                raise ShotError(f"{path}: a deep EXR; expected a flat one; flatten it when exporting")
            try:
                return _parse_header(head)
            except (struct.error, ValueError, IndexError):  # a longer header, or a corrupt one
                return _parse_header(head + file.read(LONGEST_HEADER))
    except OSError as error:
        raise ShotError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (struct.error, ValueError, IndexError, KeyError) as error:
        raise ShotError(f"{path}: the EXR header is cut short or corrupt; export it again") from error


def _parse_header(head: bytes) -> tuple[Windows, bytes | None]:
    # OpenEXR file layout: attributes are name\0 type\0 size data; an empty name ends the list.
    (version,) = struct.unpack_from("<I", head, 4)
    windows: Windows = {}
    chunk_lines: int | None = None
    position = 8
    while (name_end := head.index(b"\0", position)) > position:
        type_end = head.index(b"\0", name_end + 1)
        (size,) = struct.unpack_from("<I", head, type_end + 1)
        start = type_end + 5
        name = head[position:name_end].decode("latin-1")
        if name in ("dataWindow", "displayWindow"):
            windows[name] = struct.unpack_from("<4i", head, start)
        elif name == "compression":
            chunk_lines = CHUNK_LINES.get(head[start])
        position = start + size
    (x_min, y_min, x_max, y_max), _ = windows["dataWindow"], windows["displayWindow"]
    if x_max < x_min or y_max < y_min:
        raise ValueError("an empty data window")
    if version & (TILED | MULTI_PART) or chunk_lines is None:
        return windows, None
    num_chunks = -(-(y_max - y_min + 1) // chunk_lines)
    table = head[position + 1 : position + 1 + 8 * num_chunks]
    if len(table) < 8 * num_chunks:
        raise ValueError("the offset table ends early")
    return windows, table


def _check_whole(path: Path, table: bytes) -> None:
    """Raise ShotError unless the last chunk of the offset table ends inside the file."""
    offsets = struct.unpack(f"<{len(table) // 8}Q", table)
    first, last = min(offsets), max(offsets)  # a writer that was killed leaves zeros
    with path.open("rb") as file:
        total = file.seek(0, io.SEEK_END)
        file.seek(min(last, total))
        leader = file.read(8)  # y coordinate and packed size
    whole = first > 0 and len(leader) == 8 and last + 8 + struct.unpack("<2i", leader)[1] <= total
    if not whole:
        raise ShotError(f"{path}: the file is cut short ({total} bytes); export it again")
