"""A loaded model -> one file in the original code's layout, which A1111, ComfyUI and `load_model` open.

The way back of `original.py`. Names are CompVis' for the UNet and the VAE (Rombach et al. 2022), OpenCLIP's
for SDXL's second text encoder (Cherti et al. 2022).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.errors import ModelError
from pipeline.models.architectures import TextEncoder, architecture
from pipeline.models.families import Family
from pipeline.models.lora_layers import sgm_path
from pipeline.models.model import Model
from pipeline.models.names import bare_text_name
from pipeline.models.original import UNET_PREFIX, VAE_PREFIX, State
from pipeline.models.save_model import canonical_text_name
from pipeline.models.sealed import write_sealed

_VAE_RULES = (
    (r"conv_norm_out\.", "norm_out."),
    (r"conv_shortcut\.", "nin_shortcut."),
    (r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2"),
    (r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample"),
    (r"mid_block\.resnets\.0", "mid.block_1"),
    (r"mid_block\.resnets\.1", "mid.block_2"),
    (r"mid_block\.attentions\.0\.group_norm", "mid.attn_1.norm"),
    (r"mid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1"),
    (r"mid_block\.attentions\.0\.to_out\.0", "mid.attn_1.proj_out"),
)
_VAE_UP = re.compile(r"up_blocks\.(\d+)\.(resnets|upsamplers)\.(\d+)")
_OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def save_original(model: Model, path: Path, *, dtype: torch.dtype, metadata: Mapping[str, str]) -> None:
    """Write UNet, VAE and text encoders to `path`, whole or not at all, rounded to `dtype` (a VAE that would
    overflow there stays float32).

    Raises ModelError for a family without an original layout, OutputError when the system refuses.
    """
    check_original(model.family)
    encoders = architecture(model.family.name).text_encoders
    overflows = not model.family.half_vae and dtype in (torch.float16, torch.bfloat16)
    state = unet_state(model.unet) | vae_state(model.vae)
    for encoder in encoders:
        state |= text_state(getattr(model, encoder.root), encoder)
    if model.scheduler_config.get("prediction_type") == "v_prediction":
        state["v_pred"] = torch.zeros(0)
    if model.scheduler_config.get("rescale_betas_zero_snr"):
        state["ztsnr"] = torch.zeros(0)

    def dtype_of(name: str) -> torch.dtype:
        return torch.float32 if overflows and name.startswith(VAE_PREFIX) else dtype

    write_sealed(path, state, metadata, dtype_of=dtype_of)


def check_original(family: Family) -> None:
    """Raise ModelError for a family that has no original layout."""
    if not all(encoder.original for encoder in architecture(family.name).text_encoders):
        raise ModelError(
            f"train.single_file: {family.title} has no layout of one file; take it out, the folder is enough"
        )


def unet_state(unet: Any) -> State:
    """The UNet's weights under the original names."""
    state = {}
    for name, tensor in unet.state_dict().items():
        path, _, end = name.rpartition(".")
        state[f"{UNET_PREFIX}{sgm_path(path, unet.config)}.{end}"] = tensor
    return state


def vae_state(vae: Any) -> State:
    """The VAE's weights: the decoder's blocks counted from the picture, attention as 1x1 convolutions."""
    top = len(vae.config.block_out_channels) - 1

    def up(found: re.Match[str]) -> str:
        level = top - int(found[1])
        return f"up.{level}.block.{found[3]}" if found[2] == "resnets" else f"up.{level}.upsample"

    state = {}
    for name, tensor in vae.state_dict().items():
        new = _VAE_UP.sub(up, name)
        for ours, theirs in _VAE_RULES:
            new = re.sub(ours, theirs, new)
        in_attention = ".mid.attn_1." in new and tensor.ndim == 2
        state[VAE_PREFIX + new] = tensor[:, :, None, None] if in_attention else tensor
    return state


def text_state(encoder: nn.Module, spec: TextEncoder) -> State:
    """A text encoder's weights: transformers' names, or OpenCLIP's where it ends in a projection."""
    state = encoder.state_dict()
    if not spec.projected:
        return {spec.original + canonical_text_name(name): tensor for name, tensor in state.items()}
    ours = {bare_text_name(name): tensor for name, tensor in state.items()}
    layers = 1 + max(int(found[1]) for name in ours if (found := re.match(r"encoder\.layers\.(\d+)\.", name)))
    theirs = {
        "token_embedding.weight": ours["embeddings.token_embedding.weight"],
        "positional_embedding": ours["embeddings.position_embedding.weight"],
        "ln_final.weight": ours["final_layer_norm.weight"],
        "ln_final.bias": ours["final_layer_norm.bias"],
        "text_projection": ours["text_projection.weight"].T,
    }
    for layer in range(layers):
        old, new = f"encoder.layers.{layer}", f"transformer.resblocks.{layer}"
        for end in ("weight", "bias"):
            heads = [ours[f"{old}.self_attn.{part}_proj.{end}"] for part in "qkv"]
            theirs[f"{new}.attn.in_proj_{end}"] = torch.cat(heads)
            theirs |= {f"{new}.{b}.{end}": ours[f"{old}.{a}.{end}"] for a, b in _OPEN_CLIP.items()}
    return {spec.original + name: tensor for name, tensor in theirs.items()}
