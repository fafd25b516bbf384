"""Safetensors files for tests, written byte by byte from the format's description."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

BYTES = {"F16": 2, "BF16": 2, "F32": 4, "I64": 8, "U8": 1}


def write_header(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    dtype: str = "F16",
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """A file of zeros with these tensors; big ones cost no disk (the file is sparse)."""
    fields: dict[str, object] = {} if metadata is None else {"__metadata__": dict(metadata)}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + BYTES[dtype] * product(shape)
        fields[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(fields).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return path


def product(shape: tuple[int, ...]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total
