"""Safetensors files whose bytes depend on their content alone, with the hash that kohya and A1111 expect.

Tensors go to the file one by one, so a model of many gigabytes needs no second copy in memory. (safetensors'
own writer shuffles metadata from process to process.)
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.files import whole_file

HASH_KEY = "sshs_model_hash"  # sha256 of the bytes after the header, as kohya and A1111 compute it
_ALIGNMENT = 8  # safetensors pads its header to this many bytes
_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}

DtypeOf = Callable[[str], torch.dtype | None]


def _as_it_is(name: str) -> None:
    return None


def write_sealed(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, dtype_of: DtypeOf = _as_it_is
) -> None:
    """Write a safetensors file, whole or not at all; the same input gives the same bytes.

    `dtype_of` says by name what floating-point numbers are rounded to on the way; None: they stay. Raises
    OutputError.
    """
    # the widest first, as the format's own writer has it, so that every tensor is aligned
    shapes = {name: _rounded(tensor.to("meta"), dtype_of(name)) for name, tensor in tensors.items()}
    names = sorted(tensors, key=lambda name: (-shapes[name].itemsize, name))
    header: dict[str, Any] = {}
    digest, start = hashlib.sha256(), 0
    for name in names:
        like = shapes[name]
        end = start + like.numel() * like.itemsize
        header[name] = {"dtype": _NAMES[like.dtype], "shape": list(like.shape), "data_offsets": [start, end]}
        start = end
    for data in _bytes(names, tensors, dtype_of):
        digest.update(data)
    full = dict(sorted((dict(metadata) | {HASH_KEY: digest.hexdigest()}).items()))
    text = json.dumps({"__metadata__": full} | header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with whole_file(path) as unfinished, unfinished.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for data in _bytes(names, tensors, dtype_of):
            file.write(data)


def header_length(data: bytes) -> int:
    """Where the tensors of a file start."""
    (length,) = struct.unpack("<Q", data[:8])
    return 8 + int(length)


def _bytes(names: list[str], tensors: Mapping[str, Tensor], dtype_of: DtypeOf) -> Iterator[memoryview]:
    for name in names:
        whole = _rounded(tensors[name].detach(), dtype_of(name)).cpu().contiguous().reshape(-1)
        yield whole.view(torch.uint8).numpy().data


def _rounded(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor
