"""LoRA files: the contract between training, rendering and other tools.

lookdev writes kohya's layout and reads kohya's, PEFT's and diffusers' (`lora_keys.py`); what the tensors do
to a weight is in `lora_change.py`, which layers the names mean in `lora_layers.py`. Metadata are strings;
nested values are JSON.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes

from pipeline.errors import ModelError
from pipeline.models.families import Family
from pipeline.models.header import Header, TensorEntry, read_header
from pipeline.models.lora_alpha import alpha_reader
from pipeline.models.lora_change import LoraModule, build_module
from pipeline.models.lora_keys import ALPHA, DOWN, UP, group_keys, layout_of, some
from pipeline.models.sealed import HASH_KEY, header_length, write_sealed

__all__ = [
    "ALPHA",
    "DOWN",
    "HASH_KEY",
    "UP",
    "LoraFile",
    "lora_metadata",
    "parse_modules",
    "read_lora",
    "write_lora",
]


@dataclass(frozen=True)
class LoraFile:
    """What a LoRA file holds.

    `state` is key -> tensor as stored, in the file's order; `modules` is module name -> what it does;
    `layout` is "kohya", "peft", "diffusers" or "mixed".
    """

    path: Path
    state: Mapping[str, torch.Tensor]
    modules: Mapping[str, LoraModule]
    metadata: Mapping[str, str]
    layout: str

    @property
    def header(self) -> Header:
        """Names, shapes and metadata alone."""
        tensors = {key: TensorEntry(str(t.dtype), tuple(t.shape)) for key, t in self.state.items()}
        return Header(path=self.path, tensors=tensors, metadata=self.metadata)


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
    """Write keys -> tensors to `path`, whole or not at all; the same input gives the same bytes.

    In kohya's layout a missing alpha is written as the rank, which is what its absence means to kohya's
    loader. `sshs_model_hash` is added. Raises ValueError for keys that make no LoRA or metadata that are no
    strings, OutputError when the system refuses.
    """
    wrong = [key for key, value in metadata.items() if not isinstance(value, str)]
    if wrong:
        raise ValueError(f"LoRA metadata must be strings; these are not: {', '.join(wrong)}")
    try:
        modules = parse_modules(path, state, metadata)
    except ModelError as error:
        raise ValueError(str(error)) from error
    tensors = dict(state)
    if layout_of(state) == "kohya":
        for name, module in modules.items():
            tensors.setdefault(name + ALPHA, torch.tensor(module.alpha))
    write_sealed(path, tensors, metadata)


def read_lora(path: Path) -> LoraFile:
    """Read and check a LoRA file of any layout.

    PEFT's layouts hold no alpha: it comes from diffusers' adapter metadata, or from an adapter_config.json
    beside the file; without both it is the rank. Raises ModelError when the file is missing, is no
    safetensors (pickles can run code and are never opened), is damaged (its own hash disagrees), or holds
    keys or tensors that make no LoRA.
    """
    try:
        header = read_header(path)
        data = path.read_bytes()
        loaded = load_bytes(data)  # in any order
        state = {key: loaded[key] for key in header.tensors}
    except ModelError as error:
        raise ModelError(f"LoRA {error}") from None
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"LoRA {path}: is no readable safetensors file ({error}); copy it again") from error
    metadata = dict(header.metadata)
    stored = metadata.get(HASH_KEY)
    if stored is not None and stored != hashlib.sha256(data[header_length(data) :]).hexdigest():
        raise ModelError(
            f"LoRA {path}: its weights do not match its {HASH_KEY}; expected a whole file: copy it again"
        )
    modules = parse_modules(path, state, metadata)
    return LoraFile(path=path, state=state, modules=modules, metadata=metadata, layout=layout_of(state))


def parse_modules(
    path: Path, state: Mapping[str, torch.Tensor], metadata: Mapping[str, str]
) -> dict[str, LoraModule]:
    """Group keys by module, in the file's order, and check each. Raises ModelError that names `path`."""
    where = f"LoRA {path}"
    read_alpha = alpha_reader(path, metadata)
    modules, grouped = {}, group_keys(state, where=where)
    alone = [
        key
        for keys in grouped.values()
        if len({"down", "up"} & keys.keys()) == 1
        for part, key in keys.items()
        if part in ("down", "up")
    ]
    if alone:
        raise ModelError(
            f"{where}: {some(alone)} lack their partner; expected a lora_down and a lora_up (lora_A and "
            "lora_B) of each module: a key is missing or renamed; export it again"
        )
    for name, keys in grouped.items():
        parts = {part: state[key].detach() for part, key in keys.items()}
        broken = next((keys[part] for part, tensor in parts.items() if not _is_finite(tensor)), None)
        if broken is not None:
            raise ModelError(
                f"{where}: {broken} holds nan or inf; its training diverged: use another checkpoint of it"
            )
        stored = parts.pop("alpha", None)
        if stored is not None and stored.numel() != 1:
            raise ModelError(f"{where}: {name} has an alpha of {stored.numel()} numbers; expected one")
        vector = parts.pop("peft_magnitude", None)
        if vector is not None:  # a convolution's is [1, out, 1, 1] in peft; kohya's is [out, 1, ...]
            parts["magnitude"] = vector.reshape(-1, *[1] * (parts["up"].ndim - 1 if "up" in parts else 1))
        if stored is None and "down" in parts and parts["down"].ndim:
            alpha = read_alpha(name, int(parts["down"].shape[0]))
        else:
            alpha = None if stored is None else float(stored)
        modules[name] = build_module(parts, alpha=alpha, name=name, where=where)
    return modules


def _is_finite(tensor: torch.Tensor) -> bool:
    """Whether no number is nan or inf, from the smallest and largest alone: no copy of the tensor is made."""
    if not tensor.numel() or not tensor.is_floating_point():
        return True
    smallest, largest = (tensor.float() if tensor.itemsize == 1 else tensor).aminmax()
    return math.isfinite(float(smallest)) and math.isfinite(float(largest))
