"""Weights in pickles (.ckpt, .pt, .bin), read only where the user allows it, and then as plain tensors.

torch's `weights_only=True` unpickler builds tensors and containers and refuses all that could run code.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from pipeline.errors import ModelError
from pipeline.models.header import Header, TensorEntry

DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "F64": torch.float64,
        "F32": torch.float32,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "F8_E4M3": torch.float8_e4m3fn,
        "F8_E5M2": torch.float8_e5m2,
        "I64": torch.int64,
        "I32": torch.int32,
        "I16": torch.int16,
        "I8": torch.int8,
        "U8": torch.uint8,
        "BOOL": torch.bool,
    }
)
# What reading a damaged pickle raises, beside what says that it holds more than tensors.
BROKEN_PICKLE = (
    *(OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, EOFError),
    struct.error,
)
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def pickle_header(path: Path) -> Header:
    """What a pickle of weights holds, as `read_header` says it of safetensors; raises ModelError."""
    entries = {
        name: TensorEntry(_NAMES.get(tensor.dtype, "F32"), tuple(tensor.shape))
        for name, tensor in pickle_tensors(path).items()
    }
    return Header(path=path, tensors=MappingProxyType(entries), metadata=MappingProxyType({}))


def pickle_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a pickle by name; those under "state_dict" where there is one. Raises ModelError."""
    try:
        with path.open("rb") as file:
            is_zip = file.read(2) == b"PK"
        state: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip or None)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path}: holds more than plain weights, or is damaged; it is not read: convert it to "
            "safetensors with a tool that its maker names"
        ) from error
    except BROKEN_PICKLE as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path}: cannot be read ({reason[:160]}); copy the file again") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    items = state.items() if isinstance(state, dict) else ()
    tensors = {
        name: value for name, value in items if isinstance(name, str) and isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise ModelError(f"{path}: holds no named weights; expected a checkpoint's state dict")
    return tensors
