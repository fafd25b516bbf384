"""The names of the original Stable Diffusion code -> diffusers' and transformers' names.

diffusers' own converters do the work; they rename and, for OpenCLIP, split tensors. They run as well on
tensors of the meta device, so a file is checked against the networks before any weight is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)

from pipeline.models.architectures import Architecture, TextEncoder

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
State = dict[str, torch.Tensor]

# diffusers before 0.18 called the VAE's attention layers so, and the published VAE folders still do.
_OLD_ATTENTION = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


def unet_names(state: Mapping[str, torch.Tensor], spec: Architecture) -> State:
    """UNet weights of a single file (prefix UNET_PREFIX) under diffusers' names."""
    return _found(convert_ldm_unet_checkpoint(dict(state), dict(spec.unet)))


def vae_names(state: Mapping[str, torch.Tensor], spec: Architecture) -> State:
    """VAE weights under diffusers' names, from the original code's (a checkpoint's or a VAE's own file) or
    from diffusers' older ones.
    """
    if any(name.startswith(("encoder.down_blocks.", "decoder.up_blocks.")) for name in state):
        return {_modern(name): tensor for name, tensor in state.items()}
    return _found(convert_ldm_vae_checkpoint(dict(state), dict(spec.vae)))


def text_names(state: Mapping[str, torch.Tensor], encoder: TextEncoder) -> State:
    """Text-encoder weights of a single file (prefix `encoder.original`) under transformers' names."""
    if not encoder.projected:
        return {name.removeprefix(encoder.original): tensor for name, tensor in state.items()}
    shape = SimpleNamespace(config=SimpleNamespace(hidden_size=encoder.config["hidden_size"]))
    converted: State = convert_open_clip_checkpoint(shape, dict(state), prefix=encoder.original)
    return converted


def _found(converted: Mapping[str, torch.Tensor | None]) -> State:
    """Without what the converter did not find: it writes None there."""
    return {name: tensor for name, tensor in converted.items() if tensor is not None}


def _modern(name: str) -> str:
    if ".attentions." in name:
        for old, new in _OLD_ATTENTION.items():
            name = name.replace(old, new)
    return name
