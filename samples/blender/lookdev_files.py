"""Files of a lookdev shot with numpy alone, since Blender's Python has no OpenEXR: EXR in and out, PNG out.

Blender writes all passes of a frame into one EXR and its Python cannot read that back (the compositor drops
the fourth channel of Vector), so it is read here. OpenEXR file layout:
https://openexr.com/en/latest/OpenEXRFileLayout.html
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MAGIC, MULTI_PART, LONG_NAMES = 20000630, 0x1000, 0x400
ZIP, ZIP_LINES = 3, 16
LINES = {0: 1, 2: 1, ZIP: ZIP_LINES}  # compression's code -> lines of a chunk: none, ZIP by line, ZIP
TYPES: Mapping[int, np.dtype[Any]] = {0: np.dtype("<u4"), 1: np.dtype("<f2"), 2: np.dtype("<f4")}


class Part(NamedTuple):
    """One part of an EXR: its channels (name, type) in file order, its data window, the lines of a chunk."""

    channels: list[tuple[str, np.dtype[Any]]]
    width: int
    height: int
    top: int
    lines: int


def read_exr(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Channel -> float32 [H, W] of an EXR of scan lines, uncompressed or ZIP, of one part or several."""
    data = path.read_bytes()
    magic, version = struct.unpack_from("<2I", data)
    if magic != MAGIC:
        raise ValueError(f"{path}: not an EXR")
    several, position, parts = bool(version & MULTI_PART), 8, []
    while data[position] != 0:
        part, position = _read_header(data, position)
        parts.append(part)
        if not several:
            break
    position += several  # an empty header ends the list of several
    num_chunks = sum(math.ceil(part.height / part.lines) for part in parts)
    position += 8 * num_chunks  # tables of offsets; the chunks follow in order
    planes: dict[str, np.ndarray[Any, Any]] = {}
    for _ in range(num_chunks):
        part = parts[struct.unpack_from("<I", data, position)[0] if several else 0]
        position += 4 * several
        line, size = struct.unpack_from("<iI", data, position)
        position += 8
        _read_chunk(part, line - part.top, data[position : position + size], planes)
        position += size
    return planes


def _read_chunk(part: Part, first: int, data: bytes, planes: dict[str, np.ndarray[Any, Any]]) -> None:
    """Lines `first` on of a part into `planes`, which are made where they are not there."""
    num_lines = min(part.lines, part.height - first)
    whole = num_lines * part.width * sum(kind.itemsize for _, kind in part.channels)
    raw, start = (data if len(data) == whole else _inflate(data)), 0
    for row in range(first, first + num_lines):
        for name, kind in part.channels:
            plane = planes.setdefault(name, np.zeros((part.height, part.width), np.float32))
            plane[row] = np.frombuffer(raw, kind, part.width, start)
            start += kind.itemsize * part.width


def _read_header(data: bytes, position: int) -> tuple[Part, int]:
    attributes: dict[str, bytes] = {}
    while data[position] != 0:
        name, position = _text(data, position)
        _, position = _text(data, position)
        (size,) = struct.unpack_from("<I", data, position)
        attributes[name] = data[position + 4 : position + 4 + size]
        position += 4 + size
    lines = LINES.get(attributes["compression"][0])
    if lines is None:
        raise ValueError("the EXR's compression is neither none nor ZIP")
    left, top, right, bottom = struct.unpack("<4i", attributes["dataWindow"])
    prefix = attributes.get("name", b"").decode()
    channels, place, listed = [], 0, attributes["channels"]
    while listed[place] != 0:
        name, place = _text(listed, place)
        (kind,) = struct.unpack_from("<I", listed, place)
        place += 16
        channels.append((f"{prefix}.{name}" if prefix else name, TYPES[kind]))
    return Part(channels, right - left + 1, bottom - top + 1, top, lines), position + 1


def _text(data: bytes, position: int) -> tuple[str, int]:
    end = data.index(0, position)
    return data[position:end].decode(), end + 1


def write_exr(path: Path, planes: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Channel -> [H, W] as a ZIP-compressed scan line EXR of 16-bit floats."""
    names = sorted(planes)
    stack = np.stack([np.asarray(planes[name]) for name in names], axis=1)  # [H, C, W]
    with np.errstate(over="ignore"):  # beyond 65504 is inf: nothing was hit
        stack = stack.astype("<f2")
    height, _, width = stack.shape
    header = _header(names, width, height)
    chunks = []
    for top in range(0, height, ZIP_LINES):
        raw = stack[top : top + ZIP_LINES].tobytes()
        packed = _deflate(raw)
        chunk = packed if len(packed) < len(raw) else raw  # stored as it is where that is smaller
        chunks.append(struct.pack("<iI", top, len(chunk)) + chunk)
    offset, table = len(header) + 8 * len(chunks), b""
    for chunk in chunks:
        table += struct.pack("<Q", offset)
        offset += len(chunk)
    _write(path, header + table + b"".join(chunks))


def _header(names: list[str], width: int, height: int) -> bytes:
    channels = b"".join(name.encode() + b"\0" + struct.pack("<I4xII", 1, 1, 1) for name in names) + b"\0"
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    attributes = (
        ("channels", "chlist", channels),
        ("compression", "compression", bytes([ZIP])),
        ("dataWindow", "box2i", window),
        ("displayWindow", "box2i", window),
        ("lineOrder", "lineOrder", b"\0"),
        ("pixelAspectRatio", "float", struct.pack("<f", 1.0)),
        ("screenWindowCenter", "v2f", struct.pack("<2f", 0.0, 0.0)),
        ("screenWindowWidth", "float", struct.pack("<f", 1.0)),
    )
    version = 2 | (LONG_NAMES if max(map(len, names)) > 31 else 0)
    text = struct.pack("<2I", MAGIC, version)
    for name, kind, value in attributes:
        text += name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<I", len(value)) + value
    return text + b"\0"


def _deflate(raw: bytes) -> bytes:
    """OpenEXR's ZIP: even bytes before odd ones, differences between neighbours, deflate."""
    values = np.frombuffer(raw, np.uint8)
    turned = np.concatenate([values[::2], values[1::2]]).astype(np.int16)
    turned[1:] = turned[1:] - turned[:-1] + 128
    return zlib.compress(turned.astype(np.uint8).tobytes())


def _inflate(data: bytes) -> bytes:
    turned = np.frombuffer(zlib.decompress(data), np.uint8).astype(np.int64)
    turned[1:] -= 128
    values = np.cumsum(turned).astype(np.uint8)  # differences summed, modulo 256
    raw, half = np.empty_like(values), (len(values) + 1) // 2
    raw[::2], raw[1::2] = values[:half], values[half:]
    return raw.tobytes()


def write_png16(path: Path, values: np.ndarray[Any, Any]) -> None:
    """[H, W] of whole numbers up to 65535 as a 16-bit grey PNG."""
    height, width = values.shape
    lines = np.zeros((height, 1 + 2 * width), np.uint8)  # each line begins with filter 0
    lines[:, 1:] = values.astype(">u2").view(np.uint8).reshape(height, 2 * width)
    chunks = (
        (b"IHDR", struct.pack(">2I5B", width, height, 16, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines.tobytes(), 9)),
        (b"IEND", b""),
    )
    _write(path, b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(data)
    partial.replace(path)
