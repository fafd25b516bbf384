"""EXRs written byte by byte: what OpenEXR's Python package cannot write."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

FLOAT = 2  # OpenEXR pixel type


def write_luminance_chroma(path: Path, luminance: np.ndarray, red: float, blue: float) -> None:
    """Y in full size with RY and BY at half of it, constant, uncompressed (OpenEXR file layout)."""
    height, width = luminance.shape
    channels = _channel("BY", 2) + _channel("RY", 2) + _channel("Y", 1) + b"\0"
    head = _header(width, height, {"channels": ("chlist", channels)})
    chunks = []
    for y in range(height):
        rows = [np.full(width // 2, value, "<f4").tobytes() for value in (blue, red) if y % 2 == 0]
        data = b"".join(rows) + luminance[y].astype("<f4").tobytes()
        chunks.append(struct.pack("<ii", y, len(data)) + data)
    starts = len(head) + 8 * height + np.cumsum([0, *map(len, chunks[:-1])])
    path.write_bytes(head + starts.astype("<u8").tobytes() + b"".join(chunks))


def write_deep(path: Path) -> None:
    """The header of a deep file; nobody reads on."""
    path.write_bytes(struct.pack("<II", 20000630, 2 | 0x800) + b"\0")


def _channel(name: str, sampling: int) -> bytes:
    return name.encode() + b"\0" + struct.pack("<iB3xii", FLOAT, 0, sampling, sampling)


def _header(width: int, height: int, extra: Mapping[str, tuple[str, bytes]]) -> bytes:
    box = struct.pack("<4i", 0, 0, width - 1, height - 1)
    attributes: dict[str, tuple[str, bytes]] = {
        **extra,
        "compression": ("compression", b"\0"),
        "dataWindow": ("box2i", box),
        "displayWindow": ("box2i", box),
        "lineOrder": ("lineOrder", b"\0"),
        "pixelAspectRatio": ("float", struct.pack("<f", 1)),
        "screenWindowCenter": ("v2f", struct.pack("<2f", 0, 0)),
        "screenWindowWidth": ("float", struct.pack("<f", 1)),
    }
    data = b"".join(
        name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value
        for name, (kind, value) in attributes.items()
    )
    return struct.pack("<II", 20000630, 2) + data + b"\0"
