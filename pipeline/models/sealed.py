"""Safetensors files whose bytes depend on their content alone, with the hash that kohya and A1111 expect."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import save

HASH_KEY = "sshs_model_hash"  # sha256 of the bytes after the header, as kohya and A1111 compute it
_ALIGNMENT = 8  # safetensors pads its header to this many bytes


def sealed(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    """The file's bytes: the same input gives the same; safetensors' own writer shuffles metadata."""
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    start, header = split(data)
    body = data[start:]
    full = dict(metadata) | {HASH_KEY: hashlib.sha256(body).hexdigest()}
    header.pop("__metadata__", None)
    text = json.dumps({"__metadata__": dict(sorted(full.items()))} | header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text + body


def split(data: bytes) -> tuple[int, dict[str, Any]]:
    """Where the tensors start, and the header."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    return 8 + length, header
