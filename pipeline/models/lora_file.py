"""LoRA files in kohya's format: the contract between training, rendering and other tools.

Keys are `<module>.lora_down.weight` (Linear [r, in], conv [r, in, k, k]), `<module>.lora_up.weight` (Linear
[out, r], conv [out, r, 1, 1]) and `<module>.alpha` (a scalar); the change to a weight is weight * alpha / r *
up @ down (Hu et al. 2021). Module names are in `names.py`. Metadata are strings; nested values are JSON.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes

from pipeline.errors import ModelError
from pipeline.files import write_bytes
from pipeline.models.families import Family

DOWN, UP, ALPHA = ".lora_down.weight", ".lora_up.weight", ".alpha"
HASH_KEY = "sshs_model_hash"  # sha256 of the bytes after the header, as kohya and A1111 compute it
_ALIGNMENT = 8  # safetensors pads its header to this many bytes


@dataclass(frozen=True)
class LoraPair:
    """One module's change: `down` [r, in, ...], `up` [out, r, ...], float32."""

    down: torch.Tensor
    up: torch.Tensor
    alpha: float

    @property
    def rank(self) -> int:
        """The inner dimension r."""
        return int(self.down.shape[0])

    def delta(self) -> torch.Tensor:
        """alpha / r * up @ down in the weight's shape, [out, in] or [out, in, k, k]."""
        product = self.up.flatten(1) @ self.down.flatten(1)  # [out, in * k * k]
        return (product * (self.alpha / self.rank)).view(self.up.shape[0], *self.down.shape[1:])


@dataclass(frozen=True)
class LoraFile:
    """What a LoRA file holds: module name -> pair, and its metadata."""

    path: Path
    pairs: Mapping[str, LoraPair]
    metadata: Mapping[str, str]


def lora_metadata(
    family: Family,
    *,
    name: str,
    rank: int,
    alpha: float,
    trigger: str = "",
    tag_frequency: Mapping[str, Mapping[str, int]] | None = None,
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Metadata that A1111, ComfyUI and kohya's tools read.

    `name` becomes `ss_output_name`, which A1111 uses as the alias: keep it unique per file. `tag_frequency`
    is {folder: {tag: count}}. `extra` adds or replaces keys. No time is written unless `extra` brings one, so
    that the same training gives the same bytes.
    """
    size = f"{family.default_size}x{family.default_size}"
    metadata = {
        "ss_v2": "False",
        "ss_base_model_version": family.base_model_version,
        "ss_sd_model_name": family.name,
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(alpha),
        "ss_network_args": json.dumps({}),
        "ss_output_name": name,
        "ss_resolution": f"({family.default_size}, {family.default_size})",
        "ss_tag_frequency": json.dumps(tag_frequency or {}, ensure_ascii=False),
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": family.lora_architecture,
        "modelspec.implementation": "diffusers",
        "modelspec.title": name,
        "modelspec.resolution": size,
    }
    if trigger:
        metadata["modelspec.trigger_phrase"] = trigger
    return metadata | dict(extra or {})


def write_lora(path: Path, state: Mapping[str, torch.Tensor], *, metadata: Mapping[str, str]) -> None:
    """Write kohya keys -> tensors to `path`, whole or not at all; the same input gives the same bytes.

    A missing alpha is written as the rank, which is what its absence means to kohya's loader.
    `sshs_model_hash` is added. Raises ValueError for keys that make no LoRA or metadata that are no strings,
    OutputError when the system refuses.
    """
    wrong = [key for key, value in metadata.items() if not isinstance(value, str)]
    if wrong:
        raise ValueError(f"LoRA metadata must be strings; these are not: {', '.join(wrong)}")
    try:
        pairs = parse_pairs(path, state)
    except ModelError as error:
        raise ValueError(str(error)) from error
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
    for name, pair in pairs.items():
        tensors.setdefault(name + ALPHA, torch.tensor(pair.alpha))
    write_bytes(path, _with_metadata(save_bytes(tensors), metadata))


def read_lora(path: Path) -> LoraFile:
    """Read and check a kohya-format file.

    Raises ModelError when the file is missing, is no safetensors (pickles can run code and are never opened),
    is damaged (its own hash disagrees), or holds keys that are not plain LoRA.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"LoRA {path}: cannot be read ({error.strerror}); check the path") from error
    if data[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise ModelError(
            f"LoRA {path}: is a pickle, which can run code; expected safetensors; "
            "convert it first if you trust its maker"
        )
    try:
        state = load_bytes(data)
        start, header = _split(data)
        metadata = {str(k): str(v) for k, v in header.get("__metadata__", {}).items()}
    except (SafetensorError, ValueError, struct.error) as error:
        raise ModelError(f"LoRA {path}: is no readable safetensors file ({error}); copy it again") from error
    stored = metadata.get(HASH_KEY)
    if stored is not None and stored != hashlib.sha256(data[start:]).hexdigest():
        raise ModelError(
            f"LoRA {path}: its weights do not match its {HASH_KEY}; expected a whole file: copy it again"
        )
    return LoraFile(path=path, pairs=parse_pairs(path, state), metadata=metadata)


def parse_pairs(path: Path, state: Mapping[str, torch.Tensor]) -> dict[str, LoraPair]:
    """Group kohya keys by module, in the file's order.

    Raises ModelError that names `path` and the first keys that are no plain LoRA.
    """
    known = (DOWN, UP, ALPHA)
    strange = [key for key in state if not key.endswith(known)]
    if strange:
        raise ModelError(
            f"LoRA {path}: {_some(strange)} are not plain LoRA keys; "
            f"expected kohya's format: {', '.join(known)}"
        )
    modules = dict.fromkeys(key.removesuffix(end) for key in state for end in known if key.endswith(end))
    if not modules:
        raise ModelError(f"LoRA {path}: holds no weights; export it again")
    halves = [name for name in modules if name + DOWN not in state or name + UP not in state]
    if halves:
        raise ModelError(f"LoRA {path}: {_some(halves)} lack a lora_up or lora_down weight; export it again")
    return {name: _pair(path, name, state) for name in modules}


def _pair(path: Path, name: str, state: Mapping[str, torch.Tensor]) -> LoraPair:
    down, up = state[name + DOWN].detach().float(), state[name + UP].detach().float()
    plain = down.ndim == up.ndim == 2 or (down.ndim == up.ndim == 4 and up.shape[2:] == (1, 1))
    if not plain or down.shape[0] != up.shape[1]:
        raise ModelError(
            f"LoRA {path}: {name} has down {tuple(down.shape)} and up {tuple(up.shape)}; "
            "expected [r, in] and [out, r] (or [r, in, k, k] and [out, r, 1, 1])"
        )
    if not (torch.isfinite(down).all() and torch.isfinite(up).all()):
        raise ModelError(
            f"LoRA {path}: {name} holds nan or inf; its training diverged: use another checkpoint"
        )
    alpha = state.get(name + ALPHA)
    return LoraPair(down=down, up=up, alpha=float(down.shape[0]) if alpha is None else float(alpha))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _split(data: bytes) -> tuple[int, dict[str, dict[str, str]]]:
    """Where the tensors start, and the header."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    return 8 + length, header


def _with_metadata(data: bytes, metadata: Mapping[str, str]) -> bytes:
    """The file with a header whose order is fixed; safetensors' own writer shuffles metadata per process."""
    start, header = _split(data)
    body = data[start:]
    sealed = dict(metadata) | {HASH_KEY: hashlib.sha256(body).hexdigest()}
    header.pop("__metadata__", None)
    text = json.dumps({"__metadata__": dict(sorted(sealed.items()))} | header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text + body
