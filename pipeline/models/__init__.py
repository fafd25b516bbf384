"""Model families: load, encode, LoRA files in and out.

`families` and `find` are light; every other name here loads torch, diffusers and transformers at its first
use, so that planning and `lookdev --help` do not pay for them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pipeline.models.families import FAMILIES, Family
from pipeline.models.find import find_model

if TYPE_CHECKING:
    from pipeline.models.encode import (
        Conditioning,
        count_chunks,
        count_tokens,
        decode_latents,
        encode_captions,
        encode_images,
        encode_prompts,
        encode_text,
        is_read_at_once,
    )
    from pipeline.models.load import load_model
    from pipeline.models.lora_apply import LoraStack, LoraUse, apply_loras, remove_loras
    from pipeline.models.lora_file import LoraFile, lora_metadata, read_lora, write_lora
    from pipeline.models.lora_inject import (
        LoraModules,
        inject_lora,
        load_lora_state,
        lora_disabled,
        lora_state,
    )
    from pipeline.models.model import Model
    from pipeline.models.ready import make_ready
    from pipeline.models.textual_inversion import EmbeddingUse, load_embeddings

_HOMES = {
    "Model": "model",
    "load_model": "load",
    "make_ready": "ready",
    **dict.fromkeys(
        (
            "Conditioning",
            "count_chunks",
            "count_chunks",
            "count_tokens",
            "decode_latents",
            "encode_captions",
            "encode_images",
            "encode_prompts",
            "encode_text",
            "is_read_at_once",
        ),
        "encode",
    ),
    **dict.fromkeys(("EmbeddingUse", "load_embeddings"), "textual_inversion"),
    **dict.fromkeys(("LoraStack", "LoraUse", "apply_loras", "remove_loras"), "lora_apply"),
    **dict.fromkeys(("LoraFile", "lora_metadata", "read_lora", "write_lora"), "lora_file"),
    **dict.fromkeys(
        ("LoraModules", "inject_lora", "load_lora_state", "lora_disabled", "lora_state"), "lora_inject"
    ),
}

__all__ = [
    "FAMILIES",
    "Conditioning",
    "EmbeddingUse",
    "Family",
    "LoraFile",
    "LoraModules",
    "LoraStack",
    "LoraUse",
    "Model",
    "apply_loras",
    "count_chunks",
    "count_tokens",
    "decode_latents",
    "encode_captions",
    "encode_images",
    "encode_prompts",
    "encode_text",
    "find_model",
    "inject_lora",
    "is_read_at_once",
    "load_embeddings",
    "load_lora_state",
    "load_model",
    "lora_disabled",
    "lora_metadata",
    "lora_state",
    "make_ready",
    "read_lora",
    "remove_loras",
    "write_lora",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
