"""The header of a safetensors file: what it holds, without reading a weight. No torch here.

The format (huggingface/safetensors, README "Format"): 8 bytes of little-endian length, a JSON header of that
length, then the tensors' bytes without gaps. A header names each tensor's dtype, shape and place, so a file
that was cut short, a pickle or a web page saved under the wrong name is known before anything is loaded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pipeline.errors import ModelError

MAX_HEADER = 100_000_000  # bytes; the limit of the safetensors library
_PREFIX = 8
_BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8"), 8),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}
# First bytes of what people save as .safetensors by mistake: (magic, what it is, what to do).
_PICKLE = "is a pickle, which can run code; expected safetensors: convert it first if you trust its maker"
_OTHERS = (
    (b"PK\x03\x04", _PICKLE),  # torch.save's zip
    *((bytes((0x80, version)), _PICKLE) for version in range(2, 6)),  # its older stream
    (b"version https://git-lfs", "is a git-lfs pointer, not the weights; run git lfs pull in its folder"),
    (b"<", "is a web page, not weights; the download was refused: log in there, or take the file's own link"),
    (b"GGUF", "is a GGUF file; expected safetensors: take the model's safetensors file"),
    (b'{"', "is a JSON file; expected safetensors: take the weights that lie beside it"),
)


class TensorEntry(NamedTuple):
    """One tensor: safetensors' name of its dtype ("F16", "BF16", "F32", ...) and its shape."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Header:
    """What a safetensors file says that it holds: `tensors` in the file's order, `metadata` strings.

    `length`: where the weights start, in bytes.
    """

    path: Path
    tensors: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]
    length: int = 0


def read_header(path: Path) -> Header:
    """Read and check the header of a safetensors file; the weights are not read.

    Raises ModelError, one line that names the file: missing, a folder, empty, not safetensors (a pickle,
    a git-lfs pointer, a web page are named), a header that is too large or damaged, tensors that end past
    the end of the file (a download that broke off) or leave gaps.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(64)
            length = int.from_bytes(prefix[:_PREFIX], "little")
            _check_prefix(path, prefix, length, size)
            file.seek(_PREFIX)
            text = file.read(length)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        data = None
    if not isinstance(data, dict):
        raise ModelError(f"{path}: its safetensors header is damaged (no JSON); copy the file again")
    metadata = data.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict):
        raise ModelError(f"{path}: its safetensors header is damaged (metadata); copy the file again")
    return Header(
        path=path,
        tensors=MappingProxyType(_entries(path, data, size - _PREFIX - length)),
        metadata=MappingProxyType({str(key): str(value) for key, value in metadata.items()}),
        length=_PREFIX + length,
    )


def _check_prefix(path: Path, prefix: bytes, length: int, size: int) -> None:
    """Refuse what cannot be safetensors. The first bytes of a good file may look like a pickle's."""
    if size == 0:
        raise ModelError(f"{path}: is empty; copy the file again")
    if prefix[_PREFIX : _PREFIX + 1] != b"{":
        start = prefix.lstrip()
        for magic, what in _OTHERS:
            if start.startswith(magic):
                raise ModelError(f"{path}: {what}")
        raise ModelError(f"{path}: is no safetensors file; expected a .safetensors of a model's weights")
    if length > MAX_HEADER:
        raise ModelError(
            f"{path}: its safetensors header claims {length} bytes (at most {MAX_HEADER}); copy it again"
        )
    if _PREFIX + length > size:
        raise ModelError(
            f"{path}: is cut short ({size} bytes, its header alone takes {_PREFIX + length}); "
            "copy the file again"
        )


def _entries(path: Path, data: Mapping[str, Any], body: int) -> dict[str, TensorEntry]:
    """Each tensor's entry; together they must cover the `body` bytes after the header, without gaps."""
    entries, spans = {}, []
    for name, fields in data.items():
        try:
            dtype, shape, (begin, end) = fields["dtype"], tuple(fields["shape"]), fields["data_offsets"]
            bits = _BITS[dtype] * math.prod(shape)
            sound = all(type(n) is int and n >= 0 for n in (*shape, begin, end)) and 8 * (end - begin) == bits
        except (KeyError, TypeError, ValueError):
            sound = False
        if not sound:
            raise ModelError(
                f"{path}: its safetensors header is damaged at tensor '{name}'; copy the file again"
            )
        entries[name] = TensorEntry(dtype, shape)
        spans.append((begin, end))
    covered = 0
    for begin, end in sorted(spans):
        if begin != covered:
            raise ModelError(f"{path}: its tensors leave gaps or overlap; copy the file again")
        covered = end
    if covered > body:
        raise ModelError(
            f"{path}: is cut short ({body} of {covered} bytes of weights are there); copy the file again"
        )
    if covered < body:
        raise ModelError(f"{path}: has {body - covered} bytes after its last tensor; copy the file again")
    return entries
